//! Mutual TLS on every link.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use weir_common::config::TlsConfig;
use weir_proto::transport::TlsMaterial;

use super::*;

/// PEM files of an authority and of a process that it vouches for.
fn certificates(folder: &Path) -> TlsConfig {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let process = CertificateParams::new(vec!["weir.test".to_owned()]).unwrap();
    let certificate = process.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, content: String| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    TlsConfig {
        ca: write("ca.pem", ca.pem()),
        certificate: write("certificate.pem", certificate.pem()),
        key: write("key.pem", key.serialize_pem()),
        server_name: Some("weir.test".to_owned()),
    }
}

fn material(tls: &TlsConfig) -> TlsMaterial {
    TlsMaterial::read(&tls.ca, &tls.certificate, &tls.key, tls.server_name.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_certificate_of_the_authority_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path());
    let peers = addresses(3);
    let mut managers = Vec::new();
    for id in 1..=3 {
        let mut config = config(folder.path(), id, &peers);
        config.tls = Some(tls.clone());
        managers.push(JobManager::start(config).await.unwrap());
    }
    // An election needs the links between them.
    let leader = eventually("a leader", || async {
        managers.iter().position(JobManagerHandle::is_leader)
    })
    .await;
    let ask = async |channel: Channel| {
        JobServiceClient::new(channel)
            .get_cluster(v1::GetClusterRequest {})
            .await
    };
    let trusted = connect(&peers[leader], Some(&material(&tls))).unwrap();
    let cluster = ask(trusted).await.unwrap().into_inner();
    assert_eq!(cluster.job_managers, peers);

    let plain = connect(&peers[leader], None).unwrap();
    assert!(ask(plain).await.is_err());
    let elsewhere = folder.path().join("other");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut stranger = certificates(&elsewhere);
    stranger.ca = tls.ca;
    let stranger = connect(&peers[leader], Some(&material(&stranger))).unwrap();
    assert!(ask(stranger).await.is_err());
    for manager in managers {
        manager.shutdown().await;
    }
}
