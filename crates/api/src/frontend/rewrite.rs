//! What becomes of a question on its way to the querier.

use http::{HeaderMap, Method, header};
use model::Millis;
use model::time::format_duration;

use super::{FORM, Operation, Passed};
use crate::error::ApiError;
use crate::params::{self, parse_duration, parse_time};

/// How questions are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// Range queries begin and end at multiples of their step.
    pub align: bool,
    /// The longest range that may be asked for, ms; 0: any.
    pub longest: Millis,
    /// `partial_response` of queries that do not say.
    pub partial_response: bool,
    /// `partial_response` of questions for labels and series that do not say.
    pub labels_partial_response: bool,
    /// How far back labels and series are looked for unless the question says, ms; 0: for ever.
    pub labels_range: Millis,
}

type Pairs = Vec<(String, String)>;

/// The parameters of a request that can be written anew.
pub(super) struct Question {
    pairs: Pairs,
    /// Whether they go into a form.
    form: bool,
}

/// All parameters of a request, as far as they can be read.
pub(super) fn pairs(query: &str, headers: &HeaderMap, body: &[u8]) -> Pairs {
    let (mut out, mut broken) = (Vec::new(), None);
    if has_form(headers) {
        params::pairs(body, &mut out, &mut broken);
    }
    params::pairs(query.as_bytes(), &mut out, &mut broken);
    out
}

fn has_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .is_some_and(|v| {
            v.trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })
}

impl Question {
    /// Reads the parameters; none if they cannot all be read: then the querier shall say why.
    pub(super) fn read(passed: &Passed) -> Option<Self> {
        let (mut pairs, mut broken) = (Vec::new(), None);
        let form = passed.method == Method::POST && has_form(&passed.headers);
        if form {
            params::pairs(&passed.body, &mut pairs, &mut broken);
        }
        if let Some((_, query)) = passed.target.split_once('?') {
            params::pairs(query.as_bytes(), &mut pairs, &mut broken);
        }
        broken.is_none().then_some(Self { pairs, form })
    }

    fn get(&self, name: &str) -> &str {
        let mut found = self.pairs.iter().filter(|(n, _)| n == name);
        found.next().map_or("", |(_, value)| value)
    }

    fn set(&mut self, name: &str, value: String) {
        self.pairs.retain(|(n, _)| n != name);
        self.pairs.push((name.to_owned(), value));
    }

    fn default(&mut self, name: &str, value: &str) {
        if self.get(name).is_empty() {
            self.set(name, value.to_owned());
        }
    }

    /// The question as it goes on; an error if it must not.
    pub(super) fn rewritten(
        mut self,
        operation: Operation,
        how: &Rewriting,
        statistics: bool,
        now: Millis,
    ) -> Result<Self, ApiError> {
        let partial = match operation {
            Operation::Instant | Operation::Range => how.partial_response,
            _ => how.labels_partial_response,
        };
        self.default("partial_response", if partial { "true" } else { "false" });
        match operation {
            Operation::Range => self.fit(how)?,
            Operation::Instant => {}
            Operation::LabelNames | Operation::LabelValues | Operation::Series => {
                if how.labels_range > 0 {
                    // An end alone moves the beginning with it, as in Thanos.
                    let end = match self.get("end") {
                        "" => now,
                        text => parse_time(text).unwrap_or(now),
                    };
                    self.default("end", &seconds(end));
                    self.default("start", &seconds(end - how.labels_range));
                }
            }
        }
        if statistics && matches!(operation, Operation::Instant | Operation::Range) {
            self.default("stats", "true");
        }
        Ok(self)
    }

    /// Judges and aligns a range. What cannot be read goes on as it is: the querier has the words.
    fn fit(&mut self, how: &Rewriting) -> Result<(), ApiError> {
        let (Ok(start), Ok(end)) = (parse_time(self.get("start")), parse_time(self.get("end")))
        else {
            return Ok(());
        };
        let length = end.saturating_sub(start);
        if how.longest > 0 && length > how.longest {
            return Err(ApiError::bad(format!(
                "the query time range exceeds the limit (query length: {}, limit: {})",
                format_duration(length),
                format_duration(how.longest)
            )));
        }
        let step = parse_duration(self.get("step")).unwrap_or(0) / 1_000_000;
        if how.align && step > 0 {
            self.set("start", seconds(start - start.rem_euclid(step)));
            self.set("end", seconds(end - end.rem_euclid(step)));
        }
        Ok(())
    }

    /// Puts the parameters into the request.
    pub(super) fn write(self, passed: &mut Passed) {
        let path = passed.target.split('?').next().unwrap_or("/").to_owned();
        let text = encode(&self.pairs);
        if self.form {
            passed.target = path;
            passed.body = text.into();
            passed.headers.insert(header::CONTENT_TYPE, FORM);
        } else {
            passed.target = format!("{path}?{text}");
        }
    }
}

/// Milliseconds as the API reads seconds.
fn seconds(ms: Millis) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    match ms % 1000 {
        0 => format!("{sign}{}", ms / 1000),
        rest => format!("{sign}{}.{rest:03}", ms / 1000),
    }
}

fn encode(pairs: &Pairs) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        escape(&mut out, name);
        out.push('=');
        escape(&mut out, value);
    }
    out
}

fn escape(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(method: Method, target: &str, body: &'static str) -> Passed {
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, FORM);
        }
        Passed {
            method,
            target: target.to_owned(),
            headers,
            body: body.into(),
        }
    }

    fn rewrite(
        mut passed: Passed,
        operation: Operation,
        how: &Rewriting,
    ) -> Result<Passed, String> {
        let question = Question::read(&passed).ok_or("not read")?;
        let question = question
            .rewritten(operation, how, false, 1_000_000_000)
            .map_err(|e| e.to_string())?;
        question.write(&mut passed);
        Ok(passed)
    }

    #[test]
    fn ranges_are_aligned_and_limited() {
        let how = Rewriting {
            align: true,
            longest: 3_600_000,
            partial_response: true,
            ..Rewriting::default()
        };
        let target = "/api/v1/query_range?query=a+%2B+%22%C3%A4%22&start=101.5&end=3601&step=60";
        let done = rewrite(passed(Method::GET, target, ""), Operation::Range, &how).unwrap();
        assert_eq!(
            done.target,
            "/api/v1/query_range?query=a+%2B+%22%C3%A4%22&step=60&partial_response=true&start=60&end=3600"
        );
        let form = "query=up&start=0&end=10&step=3s&partial_response=false";
        let done = rewrite(passed(Method::POST, "/q", form), Operation::Range, &how).unwrap();
        assert_eq!(done.target, "/q");
        assert_eq!(
            done.body,
            "query=up&step=3s&partial_response=false&start=0&end=9"
        );
        let long = passed(Method::GET, "/q?start=0&end=3601&step=1", "");
        let error = rewrite(long, Operation::Range, &how).err().unwrap();
        assert_eq!(
            error,
            "the query time range exceeds the limit (query length: 1h1s, limit: 1h)"
        );
        // What the querier will refuse is left to it.
        let odd = passed(Method::GET, "/q?start=x&end=3601&step=1", "");
        let done = rewrite(odd, Operation::Range, &how).unwrap();
        assert_eq!(
            done.target,
            "/q?start=x&end=3601&step=1&partial_response=true"
        );
        assert!(Question::read(&passed(Method::GET, "/q?a=%zz", "")).is_none());
    }

    #[test]
    fn labels_look_back_for_a_while() {
        let how = Rewriting {
            labels_range: 86_400_000,
            ..Rewriting::default()
        };
        let labels = passed(Method::GET, "/api/v1/labels?match[]=up", "");
        let done = rewrite(labels, Operation::LabelNames, &how).unwrap();
        assert_eq!(
            done.target,
            "/api/v1/labels?match%5B%5D=up&partial_response=false&end=1000000&start=913600"
        );
        let whole = passed(Method::GET, "/l?start=1&end=2", "");
        let done = rewrite(whole, Operation::Series, &how).unwrap();
        assert_eq!(done.target, "/l?start=1&end=2&partial_response=false");
    }
}
