//! Which message a request carries.

use http::{HeaderMap, StatusCode, header};

use super::Refused;

/// A remote write message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// `prometheus.WriteRequest`: remote write 1.x.
    V1,
    /// `io.prometheus.write.v2.Request`: remote write 2.0.
    V2,
}

impl Message {
    /// Its full name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

impl std::str::FromStr for Message {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::V1, Self::V2]
            .into_iter()
            .find(|m| m.as_str() == name)
            .ok_or_else(|| {
                format!(
                    "unknown type for remote write protobuf message {name}, supported: {}, {}",
                    Self::V1.as_str(),
                    Self::V2.as_str()
                )
            })
    }
}

/// The message that the headers announce, if it is one of those `accepted`.
pub(super) fn message(headers: &HeaderMap, accepted: &[Message]) -> Result<Message, Refused> {
    let unsupported = |text: String| Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    let get = |name| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    };
    let kind = match get(header::CONTENT_TYPE) {
        // Old senders say nothing.
        "" => Message::V1,
        kind => parse(kind).map_err(unsupported)?,
    };
    if !accepted.contains(&kind) {
        let names: Vec<&str> = accepted.iter().map(|m| m.as_str()).collect();
        return Err(unsupported(format!(
            "{} protobuf message is not accepted by this server; only accepts {}",
            kind.as_str(),
            names.join(", ")
        )));
    }
    match get(header::CONTENT_ENCODING) {
        "" | "snappy" => Ok(kind),
        other => Err(unsupported(format!(
            "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ))),
    }
}

fn parse(kind: &str) -> Result<Message, String> {
    let mut parts = kind.split(';').map(str::trim);
    if parts.next() != Some("application/x-protobuf") {
        return Err(format!(
            "expected application/x-protobuf as the first (media) part, got {kind} content-type"
        ));
    }
    for part in parts.filter(|p| !p.is_empty()) {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| format!("as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {part} in {kind} content-type"))?;
        if name == "proto" {
            return value.trim_matches('"').parse();
        }
    }
    Ok(Message::V1)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(kind: &'static str, encoding: &'static str) -> Result<Message, (u16, String)> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if !encoding.is_empty() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        message(&headers, &[Message::V1, Message::V2]).map_err(|r| (r.status.as_u16(), r.message))
    }

    #[test]
    fn messages_are_announced_by_content_type() {
        assert_eq!(of("", ""), Ok(Message::V1));
        assert_eq!(of("application/x-protobuf", "snappy"), Ok(Message::V1));
        assert_eq!(
            of(
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                "snappy"
            ),
            Ok(Message::V2)
        );
        assert_eq!(
            of("application/x-protobuf; proto=prometheus.WriteRequest", ""),
            Ok(Message::V1)
        );
        for (kind, encoding) in [
            ("application/json", ""),
            ("application/x-protobuf;proto=other", ""),
            ("application/x-protobuf;proto", ""),
            ("application/x-protobuf", "gzip"),
        ] {
            assert_eq!(of(kind, encoding).unwrap_err().0, 415, "{kind} {encoding}");
        }
        let error = message(&HeaderMap::new(), &[Message::V2]).unwrap_err();
        assert!(
            error
                .message
                .starts_with("prometheus.WriteRequest protobuf message is not accepted")
        );
    }
}
