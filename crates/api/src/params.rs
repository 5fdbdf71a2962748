//! Parameters of a request, from its URL and its form, read as Go's `net/http` and Prometheus
//! read them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, Multipart, Request};
use http::request::Parts;
use http::{Method, header};
use model::labels::write_quoted;
use model::{Matcher, Millis, TimeRange};
use promql::value::Origin;
use wire::server::ClientCertificate;

use crate::error::ApiError;

/// A form may have this many bytes, as in Go.
const MOST_FORM_BYTES: usize = 10 << 20;

/// The earliest time a range may begin, ms: what Prometheus takes for "from the beginning".
pub(crate) const MIN_TIME: Millis = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// The latest time a range may end, ms.
pub(crate) const MAX_TIME: Millis = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

/// All parameters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    url: Vec<(String, String)>,
    form: Vec<(String, String)>,
    /// The first pair that could not be read; only some endpoints mind.
    broken: Option<String>,
    headers: http::HeaderMap,
    /// What the client showed of itself.
    certificate: Option<ClientCertificate>,
    origin: Origin,
}

impl<S: Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let mut params = Params::default();
        let form = Form::of(&request);
        let (parts, body) = request.into_parts();
        params.headers = parts.headers.clone();
        params.certificate = parts.extensions.get().cloned();
        params.origin = origin(&parts);
        if let Some(query) = parts.uri.query() {
            pairs(query.as_bytes(), &mut params.url, &mut params.broken);
        }
        match form {
            Form::None => {}
            Form::Pairs => params.read_form(body).await?,
            Form::Parts => params.read_parts(Request::from_parts(parts, body)).await?,
        }
        Ok(params)
    }
}

/// What kind of form a request's body is.
enum Form {
    None,
    /// `a=1&b=2`
    Pairs,
    /// Parts with headers of their own, as browsers' `FormData` and `curl -F` send them.
    Parts,
}

impl Form {
    fn of(request: &Request) -> Self {
        let bodied = matches!(
            *request.method(),
            Method::POST | Method::PUT | Method::PATCH
        );
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|v| v.to_str().ok()).filter(|_| bodied);
        let media = kind.and_then(|v| v.split(';').next()).unwrap_or("").trim();
        if media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::Pairs
        } else if media.eq_ignore_ascii_case("multipart/form-data") {
            Self::Parts
        } else {
            Self::None
        }
    }
}

/// Who asks. The router has taken from the path what all of the API begins with.
fn origin(parts: &Parts) -> Origin {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    Origin::Request {
        client: peer
            .map_or(String::new(), |peer| peer.0.ip().to_string())
            .into(),
        method: parts.method.as_str().into(),
        path: format!("/api/v1{}", parts.uri.path()).into(),
    }
}

impl Params {
    async fn read_form(&mut self, body: Body) -> Result<(), ApiError> {
        let bytes = axum::body::to_bytes(body, MOST_FORM_BYTES)
            .await
            .map_err(|e| ApiError::bad(format!("error parsing form values: {e}")))?;
        pairs(&bytes, &mut self.form, &mut self.broken);
        Ok(())
    }

    /// Files among the parts are passed over. As in Go, the URL's values come first.
    async fn read_parts(&mut self, request: Request) -> Result<(), ApiError> {
        let failed = |e: String| ApiError::bad(format!("error parsing form values: {e}"));
        let limited =
            request.map(|body| Body::new(http_body_util::Limited::new(body, MOST_FORM_BYTES)));
        let parts = Multipart::from_request(limited, &()).await;
        let mut parts = parts.map_err(|e| failed(e.body_text()))?;
        while let Some(part) = parts
            .next_field()
            .await
            .map_err(|e| failed(e.body_text()))?
        {
            let Some(name) = part.name().filter(|_| part.file_name().is_none()) else {
                continue;
            };
            let name = name.to_owned();
            let value = part.text().await.map_err(|e| failed(e.body_text()))?;
            self.url.push((name, value));
        }
        Ok(())
    }

    /// The first value of `name`, the form's before the URL's; `""` if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let mut found = self.form.iter().chain(&self.url).filter(|(n, _)| n == name);
        found.next().map_or("", |(_, v)| v)
    }

    /// The first value of `name` in the URL alone.
    pub(crate) fn url(&self, name: &str) -> &str {
        let mut found = self.url.iter().filter(|(n, _)| n == name);
        found.next().map_or("", |(_, v)| v)
    }

    /// The header `name`, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The certificate that the client showed.
    pub(crate) fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }

    /// Who asks.
    pub(crate) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.form
            .iter()
            .chain(&self.url)
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Fails if a pair could not be read.
    pub(crate) fn whole(&self) -> Result<(), ApiError> {
        match &self.broken {
            None => Ok(()),
            Some(why) => Err(ApiError::bad(format!("error parsing form values: {why}"))),
        }
    }

    /// `limit`: a number of answers, 0 for all.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let text = self.get("limit");
        if text.is_empty() {
            return Ok(0);
        }
        match atoi(text) {
            Ok(n) => usize::try_from(n)
                .map_err(|_| ApiError::param("limit", "limit must be non-negative")),
            Err(why) => Err(ApiError::param("limit", why)),
        }
    }

    /// The optional time `name`, ms.
    pub(crate) fn time_or(&self, name: &str, default: Millis) -> Result<Millis, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            text => parse_time(text).map_err(|why| {
                ApiError::param(name, format!("invalid time value for '{name}': {why}"))
            }),
        }
    }

    /// The needed time `name`, ms.
    pub(crate) fn time(&self, name: &str) -> Result<Millis, ApiError> {
        parse_time(self.get(name)).map_err(|why| ApiError::param(name, why))
    }

    /// `start` and `end`, both optional.
    pub(crate) fn range(&self) -> Result<TimeRange, ApiError> {
        Ok(TimeRange::new(
            self.time_or("start", MIN_TIME)?,
            self.time_or("end", MAX_TIME)?,
        ))
    }

    /// `match[]`: each selects something.
    pub(crate) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, String> {
        self.all("match[]").map(selector).collect()
    }

    /// `match[]`, whatever it selects.
    pub(crate) fn any_selectors(&self) -> Result<Vec<Vec<Matcher>>, String> {
        let parsed = self.all("match[]").map(promql::parse::parse_selector);
        parsed.map(|p| p.map_err(|e| e.to_string())).collect()
    }
}

/// A series selector that does not select everything.
fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    let matchers = promql::parse::parse_selector(text).map_err(|e| e.to_string())?;
    if matchers.iter().all(Matcher::matches_empty) {
        return Err("match[] must contain at least one non-empty matcher".to_owned());
    }
    Ok(matchers)
}

/// A whole number as Go's `strconv.Atoi` reads it, with its words when it cannot.
pub(crate) fn atoi(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|e| {
        let why = match e.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {}: {why}", quoted(text))
    })
}

pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_quoted(&mut out, text);
    out
}

/// `name=value&...`; pairs that cannot be read are left out, the first one is told.
pub(crate) fn pairs(text: &[u8], out: &mut Vec<(String, String)>, broken: &mut Option<String>) {
    for pair in text.split(|&b| b == b'&').filter(|p| !p.is_empty()) {
        let mut fail = |why: String| {
            broken.get_or_insert(why);
        };
        if pair.contains(&b';') {
            fail("invalid semicolon separator in query".to_owned());
            continue;
        }
        let mut halves = pair.splitn(2, |&b| b == b'=');
        let name = unescape(halves.next().unwrap_or_default());
        let value = unescape(halves.next().unwrap_or_default());
        match (name, value) {
            (Ok(name), Ok(value)) => out.push((name, value)),
            (Err(why), _) | (_, Err(why)) => fail(why),
        }
    }
}

fn unescape(text: &[u8]) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = |b: Option<&u8>| b.and_then(|&b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (hex(tail.first()), hex(tail.get(1))) else {
                    let shown = String::from_utf8_lossy(&tail[..tail.len().min(2)]);
                    let mut why = String::from("invalid URL escape ");
                    let _ = write!(why, "{}", quoted(&format!("%{shown}")));
                    return Err(why);
                };
                out.push((high << 4 | low) as u8);
                rest = &tail[2..];
            }
            byte => out.push(*byte),
        }
    }
    Ok(match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    })
}

/// The least and the greatest time as Prometheus writes them, which its clients send.
const EVER: [(&str, Millis); 2] = [
    ("-292273086-05-16T16:47:06Z", MIN_TIME),
    ("292277025-08-18T07:12:54.999999999Z", MAX_TIME),
];

/// A time: seconds with a fraction, or RFC 3339. The answer is in ms.
pub(crate) fn parse_time(text: &str) -> Result<Millis, String> {
    if let Some((_, ms)) = EVER.iter().find(|(written, _)| *written == text) {
        return Ok(*ms);
    }
    let cannot = || format!("cannot parse {} to a valid timestamp", quoted(text));
    if let Some(seconds) = parse_float(text) {
        if !seconds.is_finite() {
            return Err(cannot());
        }
        // The fraction is rounded to ms, becomes whole nanoseconds and then ms again, cut: every
        // step as in Prometheus, so that no time differs from it by one.
        let whole = seconds.trunc();
        let nanos = ((seconds.fract() * 1000.0).round() / 1000.0 * 1e9) as i64;
        let ms = whole * 1000.0;
        if ms <= MIN_TIME as f64 || ms >= MAX_TIME as f64 {
            return Ok(if ms < 0.0 { MIN_TIME } else { MAX_TIME });
        }
        return Ok(whole as i64 * 1000 + nanos.div_euclid(1_000_000));
    }
    parse_rfc3339(text).ok_or_else(cannot)
}

/// A number as Go's `strconv.ParseFloat` reads it, but for hexadecimal ones.
fn parse_float(text: &str) -> Option<f64> {
    // Rust also reads `infinity` and `nan` in any case, as Go does; both refuse blanks.
    text.parse().ok()
}

/// `2015-07-01T20:10:51.781+02:00` as ms since the epoch; a fraction beyond ms is cut.
fn parse_rfc3339(text: &str) -> Option<Millis> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0i64, |n, b| {
            b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
        })
    };
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = jiff::civil::Date::new(year as i16, month as i8, day as i8).ok()?;
    let midnight = date.duration_since(jiff::civil::date(1970, 1, 1));
    let mut at = 19;
    let mut ms = 0;
    if is(at, b'.') || is(at, b',') {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit());
        let count = digits.count();
        if count == 0 {
            return None;
        }
        for place in 0..3 {
            let digit = bytes.get(at + 1 + place).filter(|_| place < count);
            ms = ms * 10 + digit.map_or(0, |b| i64::from(b - b'0'));
        }
        at += 1 + count;
    }
    let offset = match bytes.get(at..)? {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if hours > 24 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = midnight.as_secs() + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * 1000 + ms)
}

/// A span: seconds with a fraction, or Prometheus' text (`1h30m`). The answer is in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let cannot = || format!("cannot parse {} to a valid duration", quoted(text));
    if let Some(seconds) = parse_float(text) {
        let nanos = seconds * 1e9;
        if nanos.is_nan() {
            return Err(cannot());
        }
        if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
            return Err(format!("{}. It overflows int64", cannot()));
        }
        return Ok(nanos as i64);
    }
    let ms = model::time::parse_duration(text).map_err(|_| cannot())?;
    ms.checked_mul(1_000_000).ok_or_else(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("0", 0),
            ("1", 1000),
            ("123.123", 123_123),
            ("1.0004", 1000),
            ("1.0006", 1001),
            ("-1.5", -1500),
            ("1e3", 1_000_000),
            ("1435781430.781", 1_435_781_430_781),
            ("1435781451", 1_435_781_451_000),
            ("2015-06-03T13:21:58.555Z", 1_433_337_718_555),
            ("2015-06-03T14:21:58.555+01:00", 1_433_337_718_555),
            ("2015-06-03T13:21:58.5559999Z", 1_433_337_718_555),
            ("1969-12-31T23:59:59.9Z", -100),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("1e300", MAX_TIME),
            ("-1e300", MIN_TIME),
            ("-292273086-05-16T16:47:06Z", MIN_TIME),
            ("292277025-08-18T07:12:54.999999999Z", MAX_TIME),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
        for bad in [
            "",
            "foo",
            "30s",
            "NaN",
            "Inf",
            "2015-06-03",
            "2015-06-03T13:21:58",
            "2015-02-30T13:21:58Z",
            "2015-06-03T24:21:58Z",
            "2015-06-03T13:21:58.Z",
            "2015-06-03 13:21:58Z",
            "2015-06-03T13:21:58+0100",
            "2015-06-03T13:21:5é",
        ] {
            let why = parse_time(bad).unwrap_err();
            assert_eq!(why, format!("cannot parse {bad:?} to a valid timestamp"));
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("1", 1000),
            ("0.5", 500),
            ("1h30m", 5_400_000),
            ("-3", -3000),
            ("15s", 15_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms * 1_000_000), "{text}");
        }
        for bad in ["", "foo", "1x", "-1h", "NaN"] {
            let why = parse_duration(bad).unwrap_err();
            assert_eq!(why, format!("cannot parse {bad:?} to a valid duration"));
        }
        assert!(
            parse_duration("1e300")
                .unwrap_err()
                .ends_with("It overflows int64")
        );
    }

    #[test]
    fn forms() {
        let (mut out, mut broken) = (Vec::new(), None);
        pairs(
            b"a=1&b=%22x+y%22&&c&d=%zz&e=f;g=1&h=%e2%82%ac&i=%",
            &mut out,
            &mut broken,
        );
        let found: Vec<_> = out.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, [("a", "1"), ("b", "\"x y\""), ("c", ""), ("h", "€")]);
        assert_eq!(broken.as_deref(), Some("invalid URL escape \"%zz\""));
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(atoi("-12"), Ok(-12));
        let why = |text| atoi(text).unwrap_err();
        assert_eq!(why("x"), "strconv.Atoi: parsing \"x\": invalid syntax");
        assert!(why("99999999999999999999").ends_with("value out of range"));
    }
}
