//! The `tls_server_config` section as a rustls configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use serde::Deserialize;

use super::web_config::Wrong;
use super::{ServerError, san};

/// The section as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    cert: String,
    key: String,
    client_ca: String,
    cert_file: String,
    key_file: String,
    client_auth_type: String,
    client_ca_file: String,
    client_allowed_sans: Option<Vec<String>>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: Version,
    max_version: Version,
    prefer_server_cipher_suites: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            cert: String::new(),
            key: String::new(),
            client_ca: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            client_auth_type: String::new(),
            client_ca_file: String::new(),
            client_allowed_sans: None,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            prefer_server_cipher_suites: true,
        }
    }
}

/// Go's names of suites that rustls does not have; naming one is no mistake, it is only never
/// offered.
const ABSENT_SUITES: [&str; 6] = [
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

/// The configuration the section asks for, none if it asks for none. Every file that was read is
/// added to `files`.
pub(super) fn build(
    section: &TlsSection,
    http2: bool,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<Option<ServerConfig>, Wrong> {
    let asked = [
        &section.cert,
        &section.cert_file,
        &section.key,
        &section.key_file,
        &section.client_ca,
        &section.client_ca_file,
        &section.client_auth_type,
    ];
    if asked.iter().all(|s| s.is_empty()) {
        return Ok(None);
    }
    let wrong = |message: String| Wrong::Here(format!("tls_server_config: {message}"));
    if section.cert.is_empty() && section.cert_file.is_empty() {
        return Err(wrong("missing one of cert or cert_file".to_owned()));
    }
    if section.key.is_empty() && section.key_file.is_empty() {
        return Err(wrong("missing one of key or key_file".to_owned()));
    }
    let provider = Arc::new(provider(section).map_err(wrong)?);
    let verifier = client_verifier(section, &provider, folder, files)?;

    let chain = pem(
        "certificate",
        &section.cert,
        &section.cert_file,
        folder,
        files,
    )?;
    let key = pem("key", &section.key, &section.key_file, folder, files)?;
    let chain =
        certificates(&chain).map_err(|e| wrong(format!("cannot read the certificate: {e}")))?;
    if chain.is_empty() {
        return Err(wrong("the certificate holds no PEM CERTIFICATE".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|e| wrong(format!("cannot read the key: {e}")))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(section).map_err(wrong)?)
        .map_err(|e| wrong(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| wrong(format!("certificate and key: {e}")))?;
    config.ignore_client_order = section.prefer_server_cipher_suites;
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Some(config))
}

/// The configuration of a gRPC server after Thanos' flags.
pub(crate) fn grpc_tls(files: &crate::grpc::TlsFiles) -> Result<ServerConfig, ServerError> {
    let failed = |message: String| ServerError::Grpc(message);
    let text = |path: &Path| path.display().to_string();
    let min_version = match files.min_version.as_str() {
        "1.2" => Version::Tls12,
        "" | "1.3" => Version::Tls13,
        other => {
            let message = format!("TLS version {other:?} is not supported; use 1.2 or 1.3");
            return Err(failed(message));
        }
    };
    let section = TlsSection {
        cert_file: text(&files.cert),
        key_file: text(&files.key),
        client_ca_file: files.client_ca.as_deref().map(text).unwrap_or_default(),
        client_auth_type: match files.client_ca {
            Some(_) => "RequireAndVerifyClientCert".to_owned(),
            None => String::new(),
        },
        cipher_suites: files.ciphers.clone(),
        curve_preferences: files.curves.clone(),
        min_version,
        ..TlsSection::default()
    };
    let built = build(&section, true, Path::new(""), &mut Vec::new());
    match built {
        Ok(Some(mut config)) => {
            config.alpn_protocols = vec![b"h2".to_vec()];
            Ok(config)
        }
        Ok(None) => Err(failed("no certificate was given".to_owned())),
        Err(Wrong::Here(message)) => Err(failed(message)),
        Err(Wrong::Elsewhere(e)) => Err(e),
    }
}

fn versions(section: &TlsSection) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let all = [
        (Version::Tls12, &rustls::version::TLS12),
        (Version::Tls13, &rustls::version::TLS13),
    ];
    let versions: Vec<_> = all
        .into_iter()
        .filter(|(v, _)| (section.min_version..=section.max_version).contains(v))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        return Err("min_version and max_version leave neither TLS 1.2 nor TLS 1.3".to_owned());
    }
    Ok(versions)
}

fn provider(section: &TlsSection) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !section.cipher_suites.is_empty() {
        let mut chosen = Vec::new();
        for name in &section.cipher_suites {
            let known = provider
                .cipher_suites
                .iter()
                .find(|suite| go_suite_name(suite) == *name);
            match known {
                Some(suite) => chosen.push(*suite),
                None if ABSENT_SUITES.contains(&name.as_str()) => {}
                None => return Err(format!("unknown cipher suite {name:?}")),
            }
        }
        // As in Go, the list is about TLS up to 1.2; the suites of 1.3 are always there.
        let is_13 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_some();
        chosen.retain(|suite| !is_13(suite));
        chosen.extend(provider.cipher_suites.iter().copied().filter(is_13));
        if section.max_version == Version::Tls12 && !chosen.iter().any(|s| !is_13(s)) {
            return Err("none of the cipher_suites is supported for TLS 1.2".to_owned());
        }
        provider.cipher_suites = chosen;
    }
    if !section.curve_preferences.is_empty() {
        let mut chosen = Vec::new();
        for name in &section.curve_preferences {
            match name.as_str() {
                "CurveP256" => chosen.push(ring::kx_group::SECP256R1),
                "CurveP384" => chosen.push(ring::kx_group::SECP384R1),
                "X25519" => chosen.push(ring::kx_group::X25519),
                "CurveP521" | "X25519MLKEM768" => {}
                _ => return Err(format!("unknown curve {name:?}")),
            }
        }
        if chosen.is_empty() {
            return Err("none of the curve_preferences is supported".to_owned());
        }
        provider.kx_groups = chosen;
    }
    Ok(provider)
}

/// Go calls the ChaCha suites of TLS 1.2 with their hash and those of TLS 1.3 `TLS_...`.
fn go_suite_name(suite: &rustls::SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replacen("TLS13_", "TLS_", 1)
}

fn client_verifier(
    section: &TlsSection,
    provider: &Arc<CryptoProvider>,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<Arc<dyn ClientCertVerifier>, Wrong> {
    let wrong = |message: String| Wrong::Here(format!("tls_server_config: {message}"));
    let has_ca = !section.client_ca.is_empty() || !section.client_ca_file.is_empty();
    let any = |mandatory| -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyCertificate {
            mandatory,
            provider: Arc::clone(provider),
        })
    };
    let inner = match section.client_auth_type.as_str() {
        "" | "NoClientCert" => {
            if has_ca {
                return Err(wrong(
                    "client CA's have been configured without a Client Auth Policy".to_owned(),
                ));
            }
            return Ok(WebPkiClientVerifier::no_client_auth());
        }
        "RequestClientCert" => any(false),
        "RequireAnyClientCert" | "RequireClientCert" => any(true),
        name @ ("VerifyClientCertIfGiven" | "RequireAndVerifyClientCert") => {
            if !has_ca {
                return Err(wrong(format!(
                    "client_auth_type {name} needs client_ca or client_ca_file"
                )));
            }
            let what = "client CA";
            let text = pem(
                what,
                &section.client_ca,
                &section.client_ca_file,
                folder,
                files,
            )?;
            let mut roots = RootCertStore::empty();
            let certificates = certificates(&text)
                .map_err(|e| wrong(format!("cannot read the client CA: {e}")))?;
            for certificate in certificates {
                roots
                    .add(certificate)
                    .map_err(|e| wrong(format!("client CA: {e}")))?;
            }
            let mut builder =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            if name == "VerifyClientCertIfGiven" {
                builder = builder.allow_unauthenticated();
            }
            builder
                .build()
                .map_err(|e| wrong(format!("client CA: {e}")))?
        }
        other => return Err(wrong(format!("invalid ClientAuth: {other}"))),
    };
    Ok(match &section.client_allowed_sans {
        None => inner,
        Some(allowed) => Arc::new(AllowedNames {
            inner,
            allowed: allowed.clone(),
        }),
    })
}

/// The text of a PEM file, or the one given in place.
fn pem(
    what: &'static str,
    inline: &str,
    file: &str,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<Vec<u8>, ServerError> {
    if file.is_empty() {
        return Ok(inline.as_bytes().to_vec());
    }
    let path = folder.join(file);
    let text = std::fs::read(&path).map_err(|source| ServerError::Read {
        what,
        path: path.display().to_string(),
        source,
    });
    files.push(path);
    text
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())
}

/// Takes any certificate; the client still has to prove that it owns its key.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Asks beyond `inner` that the certificate carries one of the allowed names.
#[derive(Debug)]
struct AllowedNames {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl ClientCertVerifier for AllowedNames {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        if san::names(end_entity)
            .iter()
            .any(|name| self.allowed.contains(name))
        {
            return Ok(verified);
        }
        Err(Error::General(
            "the client's certificate has none of the allowed subject alternative names".to_owned(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
