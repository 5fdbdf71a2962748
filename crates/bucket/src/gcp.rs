//! Bearer tokens of Google for requests to other services than its storage: the library that talks to the
//! storage makes them, and finds credentials as it does for a bucket.

use http::HeaderValue;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[error("credentials of Google: {0}")]
pub struct TokenError(String);

/// Gives tokens, for everything that the account may do (`cloud-platform`).
#[derive(Debug)]
pub struct Tokens(GcpCredentialProvider);

impl Tokens {
    /// Of the service account whose key a file holds. With `""` the environment is asked:
    /// `GOOGLE_APPLICATION_CREDENTIALS`, the file of `gcloud`, the machine.
    pub fn new(credentials_file: &str) -> Result<Self, TokenError> {
        let builder = match credentials_file {
            "" => GoogleCloudStorageBuilder::from_env(),
            file => GoogleCloudStorageBuilder::new().with_service_account_path(file),
        };
        // No bucket is ever asked.
        let built = builder.with_bucket_name("none").build();
        let built = built.map_err(|e| TokenError(e.to_string()))?;
        Ok(Self(built.credentials().clone()))
    }

    /// The value of `Authorization`.
    pub async fn authorization(&self) -> Result<HeaderValue, TokenError> {
        let credential = self.0.get_credential().await;
        let credential = credential.map_err(|e| TokenError(e.to_string()))?;
        let value = HeaderValue::try_from(format!("Bearer {}", credential.bearer));
        let mut value = value.map_err(|e| TokenError(e.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_key_of_an_account_makes_a_token() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = std::process::Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-quiet"])
            .output();
        let Ok(key) = key else {
            println!("SKIPPED the_key_of_an_account_makes_a_token: no openssl");
            return;
        };
        let key = String::from_utf8(key.stdout).unwrap();
        let account = serde_json::json!({
            "type": "service_account",
            "private_key": key,
            "private_key_id": "1",
            "client_email": "writer@project.example",
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), account.to_string()).unwrap();
        let tokens = Tokens::new(file.path().to_str().unwrap()).unwrap();
        let value = tokens.authorization().await.unwrap();
        // Header, claims and signature.
        let text = value.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        assert_eq!(text.split('.').count(), 3, "{text}");
        assert!(value.is_sensitive());
        let error = Tokens::new("/nowhere.json").unwrap_err();
        assert!(error.to_string().contains("/nowhere.json"), "{error}");
    }
}
