//! Signatures of AWS (version 4) for requests to other services than S3: the library that talks to S3 makes
//! them, and finds credentials as it does for a bucket.

use std::sync::Arc;

use http::{HeaderMap, Method};
use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::HttpRequest;

/// Why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
#[error("signature of AWS: {0}")]
pub struct SignError(String);

/// An access key, its secret, and the token of the session that they are of, if they are of one.
#[derive(Clone)]
pub struct Keys {
    /// The access key.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// The session's token.
    pub token: Option<String>,
}

/// Signs requests.
#[derive(Debug)]
pub struct Signer {
    region: String,
    service: String,
    credentials: AwsCredentialProvider,
}

impl Signer {
    /// Signs for a service (Prometheus', `aps`, if it is empty) in a region (that of the environment, if it
    /// is empty) with these keys. Without any the environment is asked: its variables, a web identity, the
    /// container, the machine.
    pub fn new(region: &str, service: &str, keys: Option<Keys>) -> Result<Self, SignError> {
        let variable = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let region = Some(region.to_owned()).filter(|r| !r.is_empty());
        let region = region
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .ok_or_else(|| {
                SignError("no region is given, and AWS_REGION is not set either".to_owned())
            })?;
        let credentials: AwsCredentialProvider = match keys {
            Some(keys) => {
                let credential = AwsCredential {
                    key_id: keys.id,
                    secret_key: keys.secret,
                    token: keys.token,
                };
                Arc::new(StaticCredentialProvider::new(credential))
            }
            None => {
                let builder = AmazonS3Builder::from_env().with_region(&region);
                // No bucket is ever asked.
                let built = builder.with_bucket_name("none").build();
                let built = built.map_err(|e| SignError(e.to_string()))?;
                Arc::clone(built.credentials())
            }
        };
        let service = match service {
            "" => "aps".to_owned(),
            service => service.to_owned(),
        };
        Ok(Self {
            region,
            service,
            credentials,
        })
    }

    /// The region it signs for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The headers that sign a request with these headers and this body.
    pub async fn sign(
        &self,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<HeaderMap, SignError> {
        let failed = |e: object_store::Error| SignError(e.to_string());
        let credential = self.credentials.get_credential().await.map_err(failed)?;
        let mut request = HttpRequest::new(body.to_vec().into());
        *request.method_mut() = method.clone();
        *request.uri_mut() = url
            .parse()
            .map_err(|e| SignError(format!("{url:?}: {e}")))?;
        *request.headers_mut() = headers.clone();
        AwsAuthorizer::new(&credential, &self.service, &self.region)
            .try_authorize(&mut request, None)
            .map_err(failed)?;
        let mut signed = std::mem::take(request.headers_mut());
        for name in headers.keys() {
            if name != http::header::AUTHORIZATION {
                signed.remove(name);
            }
        }
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signature_names_key_region_and_service() {
        let keys = Some(Keys {
            id: "KEY".to_owned(),
            secret: "hush".to_owned(),
            token: None,
        });
        let signer = Signer::new("eu-central-1", "", keys).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", http::HeaderValue::from_static("snappy"));
        let signature = signer
            .sign(
                &Method::POST,
                "https://aps.example/api/v1/remote_write",
                &headers,
                b"x",
            )
            .await
            .unwrap();
        let text = |name: &str| signature.get(name).unwrap().to_str().unwrap().to_owned();
        let authorization = text("authorization");
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=KEY/"),
            "{authorization}"
        );
        assert!(
            authorization.contains("/eu-central-1/aps/aws4_request"),
            "{authorization}"
        );
        assert!(
            authorization
                .contains("SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date"),
            "{authorization}"
        );
        // Of the body.
        assert_eq!(
            text("x-amz-content-sha256"),
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        );
        assert!(!format!("{signer:?}").contains("hush"));
    }
}
