//! Snapshots of every version of the format and every kind of operator: jobs go on from them with exact results.

use weir_tests::resume::{
    BOTH, Place, case, manifest_folder, moved, newest_checkpoint, uninterrupted, versions,
};
use weir_tests::savepoints::{AFTER, BEFORE, CASES, IN_FLIGHT, many_orders};

#[test]
fn jobs_go_on_from_every_savepoint_at_any_parallelism() {
    for case in CASES {
        let expected = uninterrupted(case, &(BEFORE.to_owned() + AFTER));
        for (version, parallelism) in versions(case).iter().zip([1, 3, 4].into_iter().cycle()) {
            let place = Place::new(BOTH);
            let snapshot = moved(case, version, &place);
            place.run(case, Some(snapshot.path()), parallelism).fine();
            assert_eq!(place.rows(case), expected, "{version}, {}", case.name);
        }
    }
}

#[test]
fn rows_in_flight_are_restored_at_any_parallelism() {
    let orders = many_orders();
    let files = [("many.json", orders.as_str())];
    let expected = uninterrupted(&IN_FLIGHT, &orders);
    for version in versions(&IN_FLIGHT) {
        for parallelism in [1, 2, 3] {
            let place = Place::new(&files);
            let snapshot = moved(&IN_FLIGHT, &version, &place);
            let checkpoint = newest_checkpoint(snapshot.path());
            place.run(&IN_FLIGHT, Some(&checkpoint), parallelism).fine();
            assert_eq!(place.rows(&IN_FLIGHT), expected, "{version}");
        }
    }
}

#[test]
fn every_version_of_the_format_is_kept() {
    let mut kept: Vec<u32> = Vec::new();
    for case in CASES.iter().chain([&IN_FLIGHT]) {
        for version in versions(case) {
            let folder = manifest_folder(&case.stored(&version).join("snapshot"));
            let manifest = std::fs::read(folder.join("_metadata")).unwrap();
            kept.push(u32::from_be_bytes(manifest[8..12].try_into().unwrap()));
        }
    }
    kept.sort_unstable();
    kept.dedup();
    let all: Vec<u32> = (1..=weir_snapshot::manifest::FORMAT_VERSION).collect();
    assert_eq!(kept, all);
}

#[test]
fn a_damaged_savepoint_is_refused() {
    for version in versions(case("window-join")) {
        let place = Place::new(BOTH);
        let snapshot = moved(case("window-join"), &version, &place);
        let files = snapshot.path().join("files");
        let path = match std::fs::read_dir(&files) {
            Ok(mut files) => files.next().unwrap().unwrap().path(),
            Err(_) => snapshot.path().join("_metadata"),
        };
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&flipped, &whole[..whole.len() - 1]] {
            std::fs::write(&path, damaged).unwrap();
            place
                .run(case("window-join"), Some(snapshot.path()), 1)
                .refuses(&["cannot start from"]);
        }
        std::fs::remove_file(&path).unwrap();
        place
            .run(case("window-join"), Some(snapshot.path()), 1)
            .refuses(&["cannot start from"]);
        assert!(place.rows(case("window-join")).is_empty());
    }
}
