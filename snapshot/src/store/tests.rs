//! Against a local folder; the S3 side is tested end to end.

use super::*;

fn local() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/base/", dir.path().display());
    let store = Store::open(&url, &S3Config::default()).unwrap();
    (dir, store)
}

#[tokio::test]
async fn what_is_put_is_listed_and_read() {
    let (dir, store) = local();
    assert_eq!(store.list("").await.unwrap(), []);
    let content = Bytes::from(vec![7; 300_000]);
    let info = store.put("a/b/one", content.clone()).await.unwrap();
    store.put("a/c", Bytes::new()).await.unwrap();
    let listed = store.list("").await.unwrap();
    let paths: Vec<_> = listed
        .iter()
        .map(|l| (l.path.as_str(), l.size_bytes))
        .collect();
    assert_eq!(paths, [("a/b/one", 300_000), ("a/c", 0)]);
    assert_eq!(store.list("a/b").await.unwrap().len(), 1);
    assert_eq!(store.get("a/b/one").await.unwrap(), content);
    assert_eq!(store.checksum("a/b/one").await.unwrap(), info);

    let copy = dir.path().join("copy");
    assert_eq!(store.get_to_file("a/b/one", &copy).await.unwrap(), info);
    assert_eq!(store.put_file("again", &copy).await.unwrap(), info);
    let child = store.child("a/b").unwrap();
    assert_eq!(child.url(), format!("{}/a/b", store.url()));
    let mut tail = child.read_from("one", 299_999).await.unwrap();
    assert_eq!(
        tail.try_next().await.unwrap(),
        Some(Bytes::from_static(&[7]))
    );
    assert_eq!(tail.try_next().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_not_there_is_told_with_its_url() {
    let (_dir, store) = local();
    let error = store.get("chk-1/_metadata").await.unwrap_err();
    assert!(error.is_damage());
    assert_eq!(
        error.to_string(),
        format!("{}/chk-1/_metadata does not exist", store.url())
    );
    assert!(!store.exists("chk-1/_metadata").await.unwrap());
    store.delete(&["chk-1/_metadata".to_owned()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_creators_wins() {
    let (_dir, store) = local();
    let racers = (0..8u8).map(|racer| {
        let store = store.clone();
        tokio::spawn(async move {
            let content = Bytes::from(vec![racer; 1000]);
            (
                racer,
                store.create_new("chk-1/_metadata", content).await.unwrap(),
            )
        })
    });
    let outcomes = futures::future::join_all(racers).await;
    let winners: Vec<u8> = outcomes
        .into_iter()
        .map(|joined| joined.unwrap())
        .filter(|(_, created)| *created == Created::Created)
        .map(|(racer, _)| racer)
        .collect();
    assert_eq!(winners.len(), 1);
    let content = store.get("chk-1/_metadata").await.unwrap();
    assert_eq!(content, vec![winners[0]; 1000]);
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_path_cannot_leave_the_folder() {
    let (_dir, store) = local();
    for path in ["../x", "a/../../x", "", "a//b"] {
        let put = store.put(path, Bytes::new()).await;
        assert!(matches!(put, Err(SnapshotError::Url { .. })), "{path}");
    }
}

#[test]
fn a_bad_url_is_refused_with_the_reason() {
    for (url, words) in [
        ("gs://bucket/x", "the scheme 'gs' is not supported"),
        ("s3:///x", "names no bucket"),
        ("", "it is empty"),
    ] {
        let error = Store::open(url, &S3Config::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_path_and_its_url_are_the_same_folder() {
    let open = |url| Store::open(url, &S3Config::default()).unwrap();
    assert_eq!(open("/tmp/x/").url(), "file:///tmp/x");
    assert_eq!(open("file:///tmp/a/../x").url(), "file:///tmp/x");
    assert!(open("relative/x").local_folder().unwrap().is_absolute());
    assert_eq!(open("s3a://bucket/x/").url(), "s3://bucket/x");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_a_clear_error() {
    let (dir, _) = local();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let url = file.to_string_lossy();
    let store = Store::open(&url, &S3Config::default()).unwrap();
    let error = store.put("x", Bytes::new()).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot write file://{url}/x: ")),
        "{error}"
    );
}
