//! Signing as a role that is assumed: keys for a quarter of an hour, asked of AWS' security token service
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).

use std::time::Duration;

use anyhow::Result;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use bucket::aws::{self, Keys};
use tokio::sync::Mutex;
use wire::client::{ClientOptions, HttpClient, HttpSettings, SigV4, Signer, Signing};

/// How long keys are asked for.
const VALID: Duration = Duration::from_secs(900);
/// They are renewed so long before they end; until then a refusal costs nothing, as the old ones are good.
const EARLY: Duration = Duration::from_secs(300);
/// How long old keys are used after the service gave no new ones, before it is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Signs with keys of a role.
#[derive(Debug)]
pub(super) struct Assumed {
    /// With what the service is asked.
    own: aws::Signer,
    client: Client,
    endpoint: String,
    question: String,
    service: String,
    session: Mutex<Option<Session>>,
}

struct Client(HttpClient);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

#[derive(Debug)]
struct Session {
    signer: aws::Signer,
    until: jiff::Timestamp,
    /// From when on the service is asked for others.
    renew: jiff::Timestamp,
}

impl Assumed {
    /// The role of a section, assumed with `keys` or with what the environment has.
    pub(super) fn new(section: &SigV4, keys: Option<Keys>) -> Result<Self> {
        let own = aws::Signer::new(&section.region, "sts", keys)?;
        let endpoint = match std::env::var("AWS_ENDPOINT_URL_STS") {
            Ok(url) if !url.is_empty() => url,
            _ => address(own.region(), section.use_fips_sts_endpoint),
        };
        Self::at(section, own, endpoint)
    }

    fn at(section: &SigV4, own: aws::Signer, endpoint: String) -> Result<Self> {
        let options = ClientOptions {
            timeout: Some(Duration::from_secs(30)),
            ..ClientOptions::default()
        };
        let settings = HttpSettings {
            proxy_from_environment: true,
            ..HttpSettings::default()
        };
        let mut question = url::form_urlencoded::Serializer::new(String::new());
        question
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &section.role_arn)
            .append_pair("RoleSessionName", "epimetheus")
            .append_pair("DurationSeconds", &VALID.as_secs().to_string());
        if !section.external_id.is_empty() {
            question.append_pair("ExternalId", &section.external_id);
        }
        Ok(Self {
            own,
            client: Client(HttpClient::new(&settings, options)?),
            endpoint,
            question: question.finish(),
            service: section.service_name.clone(),
            session: Mutex::default(),
        })
    }

    async fn assume(&self) -> Result<Session, String> {
        let failed = |e: &dyn std::fmt::Display| format!("assuming sigv4.role_arn: {e}");
        let request = self.client.0.request(Method::POST, &self.endpoint);
        let mut request = request.map_err(|e| failed(&e))?;
        let headers = request.headers_mut();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, form);
        let (url, body) = (request.url().to_string(), self.question.as_bytes());
        let signed = self.own.sign(&Method::POST, &url, request.headers(), body);
        let signed = signed.await.map_err(|e| failed(&e))?;
        request.headers_mut().extend(signed);
        *request.body_mut() = Some(self.question.clone().into());
        let answer = self.client.0.send(request).await.map_err(|e| failed(&e))?;
        let status = answer.status();
        let text = wire::client::body(answer, 64 << 10).await;
        let text = text.map_err(|e| failed(&e))?;
        let text = String::from_utf8_lossy(&text);
        if !status.is_success() {
            let why = within(&text, "Message").unwrap_or("no reason given");
            return Err(failed(&format!("{} says {status}: {why}", self.endpoint)));
        }
        self.session(&text)
            .ok_or_else(|| failed(&format!("{} says what has no keys in it", self.endpoint)))
    }

    /// The keys to sign with: those held while they are fresh, then new ones, and while there are no new ones the old, as long as
    /// they are good.
    async fn keys<'h>(&self, held: &'h mut Option<Session>) -> Result<&'h Session, String> {
        let fresh = |session: &Session| jiff::Timestamp::now() < session.renew;
        if !held.as_ref().is_some_and(fresh) {
            // What is held stays until there is something better: this may be dropped while it waits.
            match (self.assume().await, held.as_mut()) {
                (Ok(session), _) => *held = Some(session),
                (Err(error), Some(old)) if jiff::Timestamp::now() < old.until => {
                    old.renew = jiff::Timestamp::now() + PATIENCE;
                    tracing::warn!(until = %old.until, "{error}; the role's old keys are used until they end");
                }
                (Err(error), _) => return Err(error),
            }
        }
        held.as_ref()
            .ok_or_else(|| "no keys of sigv4.role_arn".to_owned())
    }

    fn session(&self, text: &str) -> Option<Session> {
        let keys = Keys {
            id: within(text, "AccessKeyId")?.to_owned(),
            secret: within(text, "SecretAccessKey")?.to_owned(),
            token: Some(within(text, "SessionToken")?.to_owned()),
        };
        let signer = aws::Signer::new(self.own.region(), &self.service, Some(keys));
        let until: jiff::Timestamp = within(text, "Expiration")?.parse().ok()?;
        Some(Session {
            signer: signer.ok()?,
            until,
            renew: until - EARLY,
        })
    }
}

/// Where the service of a region is.
fn address(region: &str, fips: bool) -> String {
    let name = if fips { "sts-fips" } else { "sts" };
    let domain = match region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    };
    format!("https://{name}.{region}.{domain}/")
}

/// What stands between `<name>` and `</name>`; keys and times have nothing that XML would write otherwise.
fn within<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}

impl Signer for Assumed {
    fn sign<'a>(
        &'a self,
        method: &'a Method,
        url: &'a str,
        headers: &'a HeaderMap,
        body: &'a [u8],
    ) -> Signing<'a> {
        Box::pin(async move {
            let mut held = self.session.lock().await;
            let session = self.keys(&mut held).await?;
            let signature = session.signer.sign(method, url, headers, body);
            signature.await.map_err(|e| e.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A service that gives keys for `seconds` and counts how often; the third time it refuses.
    async fn service(seconds: i64, asked: Arc<AtomicUsize>) -> String {
        let answer = move |headers: HeaderMap, body: String| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                let authorization = headers["authorization"].to_str().unwrap();
                assert!(authorization.contains("Credential=OWN/"), "{authorization}");
                assert!(authorization.contains("/eu-west-1/sts/aws4_request"));
                assert!(body.contains("Action=AssumeRole&"), "{body}");
                assert!(
                    body.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"),
                    "{body}"
                );
                assert!(body.ends_with("&ExternalId=e"), "{body}");
                if number == 2 {
                    let text =
                        "<ErrorResponse><Error><Message>not you</Message></Error></ErrorResponse>";
                    return (axum::http::StatusCode::FORBIDDEN, text.to_owned());
                }
                let until = jiff::Timestamp::now() + Duration::from_secs(seconds as u64);
                let text = format!(
                    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE{number}</AccessKeyId><SecretAccessKey>hush</SecretAccessKey><SessionToken>tok/en==</SessionToken><Expiration>{until}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
                );
                (axum::http::StatusCode::OK, text)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().route("/", axum::routing::post(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/")
    }

    fn assumed(endpoint: String) -> Assumed {
        let section = SigV4 {
            region: "eu-west-1".into(),
            role_arn: "arn:aws:iam::1:role/r".into(),
            external_id: "e".into(),
            ..SigV4::default()
        };
        let keys = Keys {
            id: "OWN".into(),
            secret: "s".into(),
            token: None,
        };
        let own = aws::Signer::new(&section.region, "sts", Some(keys)).unwrap();
        Assumed::at(&section, own, endpoint).unwrap()
    }

    async fn sign(assumed: &Assumed) -> Result<(String, String), String> {
        let headers = HeaderMap::new();
        let url = "https://aps.example/api/v1/remote_write";
        let signed = assumed.sign(&Method::POST, url, &headers, b"x").await?;
        let text = |name: &str| signed[name].to_str().unwrap().to_owned();
        Ok((text("authorization"), text("x-amz-security-token")))
    }

    #[tokio::test]
    async fn keys_of_a_role_are_kept_while_they_are_good() {
        let asked = Arc::<AtomicUsize>::default();
        let assumed = assumed(service(900, Arc::clone(&asked)).await);
        for _ in 0..3 {
            let (authorization, token) = sign(&assumed).await.unwrap();
            assert!(
                authorization.contains("Credential=ROLE0/"),
                "{authorization}"
            );
            assert!(authorization.contains("/eu-west-1/aps/"), "{authorization}");
            assert_eq!(token, "tok/en==");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn keys_that_soon_end_are_renewed_and_are_used_while_there_are_no_others() {
        let asked = Arc::<AtomicUsize>::default();
        let assumed = assumed(service(60, Arc::clone(&asked)).await);
        // The third time the service refuses, and is left in peace for a while.
        for key in ["ROLE0", "ROLE1", "ROLE1", "ROLE1"] {
            let (authorization, _) = sign(&assumed).await.unwrap();
            assert!(authorization.contains(key), "{authorization}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert!(!format!("{assumed:?}").contains("hush"));
    }

    #[tokio::test]
    async fn a_refusal_is_told_when_no_keys_are_good() {
        let assumed = assumed(service(0, Arc::default()).await);
        for _ in 0..2 {
            sign(&assumed).await.unwrap();
        }
        let error = sign(&assumed).await.unwrap_err();
        assert!(
            error.contains("not you") && error.contains("role_arn"),
            "{error}"
        );
    }

    #[test]
    fn the_service_of_a_region() {
        assert_eq!(
            address("eu-west-1", false),
            "https://sts.eu-west-1.amazonaws.com/"
        );
        assert_eq!(
            address("us-east-1", true),
            "https://sts-fips.us-east-1.amazonaws.com/"
        );
        assert_eq!(
            address("cn-north-1", false),
            "https://sts.cn-north-1.amazonaws.com.cn/"
        );
    }
}
