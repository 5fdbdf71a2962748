//! Signatures of AWS under requests, as `sigv4` sections ask for them.

use std::sync::Arc;

use anyhow::Result;
use axum::http::{HeaderMap, Method};
use bucket::aws;
use wire::client::{SigV4, Signer, Signing};

/// Signs as a section says.
pub fn signer(section: &SigV4) -> Result<Arc<dyn Signer>> {
    let keys = (!section.access_key.is_empty()).then(|| {
        let secret = section.secret_key.expose().to_owned();
        (section.access_key.clone(), secret)
    });
    let signer = aws::Signer::new(&section.region, &section.service_name, keys)?;
    Ok(Arc::new(Aws(signer)))
}

#[derive(Debug)]
struct Aws(aws::Signer);

impl Signer for Aws {
    fn sign<'a>(
        &'a self,
        method: &'a Method,
        url: &'a str,
        headers: &'a HeaderMap,
        body: &'a [u8],
    ) -> Signing<'a> {
        let signature = self.0.sign(method, url, headers, body);
        Box::pin(async move { signature.await.map_err(|e| e.to_string()) })
    }
}
