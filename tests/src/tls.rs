//! Certificates for a test: an authority, and what it signs for loopback.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

/// The configuration that names the files of [`write_certificates`]: keys and values.
pub fn settings(folder: &Path) -> [(String, String); 3] {
    [
        ("ca", "ca.pem"),
        ("certificate", "cert.pem"),
        ("key", "key.pem"),
    ]
    .map(|(key, file)| {
        let path = folder.join(file).display().to_string();
        (format!("tls.{key}"), path)
    })
}

/// Writes ca.pem, cert.pem and key.pem of a new authority into a folder.
pub fn write_certificates(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut own = CertificateParams::new(vec!["localhost".to_owned()])?;
    own.subject_alt_names
        .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    own.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = own.signed_by(&key, &issuer)?;
    std::fs::write(folder.join("ca.pem"), ca.pem())?;
    std::fs::write(folder.join("cert.pem"), certificate.pem())?;
    std::fs::write(folder.join("key.pem"), key.serialize_pem())?;
    Ok(())
}
