//! Signatures of AWS under requests, as `sigv4` sections ask for them, and Google's tokens in them, as
//! `google_iam` does.

mod profile;
mod role;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use bucket::aws::{self, Keys};
use bucket::gcp;
use wire::client::{SigV4, Signer, Signing};

/// Signs as a section says. Reads the file of credentials, if it names a profile.
pub fn signer(section: &SigV4) -> Result<Arc<dyn Signer>> {
    let keys = match (section.access_key.as_str(), section.profile.as_str()) {
        ("", "") => None,
        ("", name) => Some(profile::read(name)?),
        (id, _) => Some(Keys {
            id: id.to_owned(),
            secret: section.secret_key.expose().to_owned(),
            token: None,
        }),
    };
    if section.role_arn.is_empty() {
        let signer = aws::Signer::new(&section.region, &section.service_name, keys)?;
        return Ok(Arc::new(Aws(signer)));
    }
    Ok(Arc::new(role::Assumed::new(section, keys)?))
}

/// Puts a token of Google into requests: of the account of a file, or with `""` of the environment.
pub fn google(credentials_file: &str) -> Result<Arc<dyn Signer>> {
    let tokens = gcp::Tokens::new(credentials_file).context("google_iam")?;
    Ok(Arc::new(Google(tokens)))
}

#[derive(Debug)]
struct Google(gcp::Tokens);

impl Signer for Google {
    fn sign<'a>(&'a self, _: &'a Method, _: &'a str, _: &'a HeaderMap, _: &'a [u8]) -> Signing<'a> {
        Box::pin(async move {
            let value = self.0.authorization().await.map_err(|e| e.to_string())?;
            Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
        })
    }
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
