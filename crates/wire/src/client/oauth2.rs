//! OAuth 2.0 client credentials (RFC 6749, section 4.4): a token is asked for with the client's
//! secret and used until shortly before it ends.

use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::settings::{HttpSettings, OAuth2};
use super::{ClientError, ClientOptions, HttpClient, read_trimmed};

/// A token is not used any more so long before it ends.
const EARLY: Duration = Duration::from_secs(10);
/// Largest answer of a token server, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Gets and keeps tokens.
pub(super) struct Tokens {
    settings: OAuth2,
    client: HttpClient,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    header: HeaderValue,
    /// The secret that it was given for.
    secret: String,
    ends: Option<Instant>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl Tokens {
    pub(super) fn new(settings: &OAuth2, options: &ClientOptions) -> Result<Self, ClientError> {
        let http = HttpSettings {
            tls_config: settings.tls_config.clone(),
            proxy_url: settings.proxy_url.clone(),
            no_proxy: settings.no_proxy.clone(),
            proxy_from_environment: settings.proxy_from_environment,
            proxy_connect_header: settings.proxy_connect_header.clone(),
            ..HttpSettings::default()
        };
        let options = ClientOptions {
            gzip: true,
            timeout: Some(Duration::from_secs(30)),
            ..options.clone()
        };
        Ok(Self {
            settings: settings.clone(),
            client: HttpClient::new(&http, options)?,
            kept: Mutex::default(),
        })
    }

    /// The value of an `Authorization` header.
    pub(super) async fn header(&self) -> Result<HeaderValue, ClientError> {
        let secret = match self.settings.client_secret_file.as_str() {
            "" => self.settings.client_secret.expose().to_owned(),
            file => read_trimmed("oauth2 client secret file", file).await?,
        };
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &*kept
            && kept.secret == secret
            && kept.ends.is_none_or(|ends| Instant::now() + EARLY < ends)
        {
            return Ok(kept.header.clone());
        }
        // Some servers want the secret in a header, some in the body: nobody says which.
        let answer = match self.ask(&secret, true).await {
            Ok(answer) => answer,
            Err(_) => self.ask(&secret, false).await?,
        };
        let kind = match answer.token_type.as_str() {
            "" => "Bearer",
            kind if kind.eq_ignore_ascii_case("bearer") => "Bearer",
            kind => kind,
        };
        let mut header = HeaderValue::try_from(format!("{kind} {}", answer.access_token))
            .map_err(|_| ClientError::Invalid("the token holds a forbidden character".into()))?;
        header.set_sensitive(true);
        let life = answer.expires_in.filter(|s| *s > 0.0 && s.is_finite());
        let ends = life.and_then(|s| {
            let life = Duration::try_from_secs_f64(s).ok()?;
            Instant::now().checked_add(life)
        });
        *kept = Some(Kept {
            header: header.clone(),
            secret,
            ends,
        });
        Ok(header)
    }

    async fn ask(&self, secret: &str, in_header: bool) -> Result<Answer, ClientError> {
        let settings = &self.settings;
        let failed = |what: String| ClientError::Failed(format!("oauth2: {what}"));
        let body = self.form(secret, in_header);
        let mut request: Request = self.client.request(Method::POST, &settings.token_url)?;
        let headers = request.headers_mut();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if in_header {
            let escape = |text: &str| -> String {
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let pair = format!("{}:{}", escape(&settings.client_id), escape(secret));
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            let mut value = HeaderValue::try_from(format!("Basic {pair}"))
                .map_err(|e| failed(e.to_string()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        *request.body_mut() = Some(body.into());
        // Boxed, because a client asks a client.
        let answer = Box::pin(self.client.send(request)).await?;
        let status = answer.status();
        let body = super::body(answer, MAX_ANSWER).await?;
        if !status.is_success() {
            return Err(failed(format!("cannot fetch token: {status}")));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|e| failed(format!("the token server's answer cannot be read: {e}")))?;
        if answer.access_token.is_empty() {
            return Err(failed("server response missing access_token".to_owned()));
        }
        Ok(answer)
    }

    fn form(&self, secret: &str, in_header: bool) -> String {
        let settings = &self.settings;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !settings.scopes.is_empty() {
            form.append_pair("scope", &settings.scopes.join(" "));
        }
        for (name, value) in &settings.endpoint_params {
            form.append_pair(name, value);
        }
        if !in_header {
            form.append_pair("client_id", &settings.client_id);
            form.append_pair("client_secret", secret);
        }
        form.finish()
    }
}
