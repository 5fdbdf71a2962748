//! TLS as a client speaks it.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::{ClientError, TlsSettings, TlsVersion};

/// What the files of some TLS settings look like, to notice when they change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen([Option<(SystemTime, u64)>; 3]);

impl Seen {
    pub(super) fn of(settings: &TlsSettings) -> Self {
        Self(
            [&settings.ca_file, &settings.cert_file, &settings.key_file].map(|path| {
                if path.is_empty() {
                    return None;
                }
                let meta = std::fs::metadata(path).ok()?;
                Some((meta.modified().ok()?, meta.len()))
            }),
        )
    }
}

/// The TLS configuration that `settings` describe, offering HTTP/2 if `http2`.
pub fn client_tls(settings: &TlsSettings, http2: bool) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier {
        provider: Arc::clone(&provider),
        roots: roots(settings)?,
        checker: OnceLock::new(),
        server_name: match settings.server_name.as_str() {
            "" => None,
            name => Some(ServerName::try_from(name.to_owned()).map_err(|_| {
                ClientError::Tls(format!("server_name {name:?} is not a valid name"))
            })?),
        },
        insecure: settings.insecure_skip_verify,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings)?)
        .map_err(|e| ClientError::Tls(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let cert = text("client cert file", &settings.cert, &settings.cert_file)?;
    let key = text("client key file", settings.key.expose(), &settings.key_file)?;
    let mut config = match (cert, key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("client cert", &cert)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| ClientError::Tls("unable to use the client key: no PEM key".into()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| ClientError::Tls(format!("unable to use the client cert: {e}")))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

/// Versions 1.2 and 1.3, as far as they are wanted; older ones are not spoken.
fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, ClientError> {
    let wanted = |version| {
        settings.min_version.is_none_or(|min| min <= version)
            && settings.max_version.is_none_or(|max| max >= version)
    };
    let mut versions = Vec::new();
    if wanted(TlsVersion::Tls13) {
        versions.push(&rustls::version::TLS13);
    }
    if wanted(TlsVersion::Tls12) {
        versions.push(&rustls::version::TLS12);
    }
    if versions.is_empty() {
        return Err(ClientError::Tls(
            "max_version below TLS12 is not supported".to_owned(),
        ));
    }
    Ok(versions)
}

/// The text given, or that of the file.
fn text(what: &'static str, inline: &str, file: &str) -> Result<Option<String>, ClientError> {
    match (inline, file) {
        ("", "") => Ok(None),
        ("", file) => match std::fs::read_to_string(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(ClientError::File {
                what,
                path: file.to_owned(),
                error,
            }),
        },
        (inline, _) => Ok(Some(inline.to_owned())),
    }
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| ClientError::Tls(format!("unable to parse the {what}: {e}")))?;
    if certificates.is_empty() {
        return Err(ClientError::Tls(format!(
            "unable to parse the {what}: no PEM certificate"
        )));
    }
    Ok(certificates)
}

/// Whom to trust.
#[derive(Debug)]
enum Roots {
    /// Whom the system trusts; read when a certificate is seen first.
    System,
    These(Arc<RootCertStore>),
}

fn roots(settings: &TlsSettings) -> Result<Roots, ClientError> {
    let Some(pem) = text("CA cert file", &settings.ca, &settings.ca_file)? else {
        return Ok(Roots::System);
    };
    let mut store = RootCertStore::empty();
    for certificate in certificates("CA cert", &pem)? {
        store
            .add(certificate)
            .map_err(|e| ClientError::Tls(format!("unable to use the CA cert: {e}")))?;
    }
    Ok(Roots::These(Arc::new(store)))
}

/// The system's certificates, read once for all clients: the store is big, and most targets speak
/// plain HTTP.
fn system_roots() -> Arc<RootCertStore> {
    static STORE: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(STORE.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    }))
}

/// Verifies as webpki does, for another name or not at all where the settings say so.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Roots,
    checker: OnceLock<Result<Arc<WebPkiServerVerifier>, String>>,
    server_name: Option<ServerName<'static>>,
    insecure: bool,
}

impl Verifier {
    fn checker(&self) -> Result<&WebPkiServerVerifier, Error> {
        let checker = self.checker.get_or_init(|| {
            let roots = match &self.roots {
                Roots::System => system_roots(),
                Roots::These(roots) => Arc::clone(roots),
            };
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
                .build()
                .map_err(|e| e.to_string())
        });
        checker.as_deref().map_err(|e| Error::General(e.clone()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.insecure {
            return Ok(ServerCertVerified::assertion());
        }
        let name = self.server_name.as_ref().unwrap_or(server_name);
        self.checker()?
            .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
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
