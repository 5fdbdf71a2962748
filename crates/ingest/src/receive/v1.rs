//! Remote write 1.x: `prometheus.WriteRequest`.

use model::Labels;
use wire::fields::{BadMessage, Fields};

use super::write::{BadLabels, Request, Taken, labels};
use super::{Inner, Refused};

const TIMESERIES: u32 = 1;

impl Inner {
    /// Takes a request as a whole, or not at all.
    pub(super) fn write_v1(&self, body: &[u8]) -> (Taken, Option<Refused>) {
        let mut request = self.request();
        // A sample has 18 bytes with its key.
        request.reserve(body.len() / 64);
        if let Err(refused) = self.read_v1(body, &mut request) {
            return (Taken::default(), Some(refused));
        }
        // Labels lie where their series does.
        self.finish(request, true, |at| {
            let message = message_at(body, at).ok()?;
            read_labels(message).ok()
        })
    }

    fn read_v1(&self, body: &[u8], request: &mut Request<'_>) -> Result<(), Refused> {
        let bad = |e: BadMessage| Refused::bad(format!("decoding the request: {e}"));
        let mut fields = Fields::new(body);
        loop {
            let at = body.len() - fields.rest().len();
            let Some((number, value)) = fields.next_field().map_err(bad)? else {
                return Ok(());
            };
            if number == TIMESERIES {
                self.series_v1(value.bytes(), at, request)?;
            }
        }
    }

    fn series_v1(
        &self,
        message: &[u8],
        at: usize,
        request: &mut Request<'_>,
    ) -> Result<(), Refused> {
        let bad = |e: BadMessage| Refused::bad(format!("decoding the request: {e}"));
        let refuse = |reason| Refused::bad(super::write::text(reason));
        let key = self.keys.key(label_bytes(message).map_err(bad)?);
        let series = match request.series(key, at, || read_labels(message)) {
            Ok(series) => series,
            Err(BadLabels::Wire(e)) => return Err(bad(e)),
            Err(error) => {
                tracing::warn!(%error, "a series of a remote write request was left out");
                self.counters.invalid_labels.inc();
                return Ok(());
            }
        };
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            match number {
                2 => {
                    let (mut float, mut ts) = (0.0, 0);
                    let mut fields = value.fields();
                    while let Some((number, value)) = fields.next_field().map_err(bad)? {
                        match number {
                            1 => float = value.double(),
                            2 => ts = value.signed(),
                            _ => {}
                        }
                    }
                    request.sample(series, ts, 0, float).map_err(refuse)?;
                }
                3 => {
                    let mut pairs = Vec::with_capacity(4);
                    let (mut float, mut ts) = (0.0, 0);
                    let mut fields = value.fields();
                    while let Some((number, value)) = fields.next_field().map_err(bad)? {
                        match number {
                            1 => pairs.push(pair(value.fields()).map_err(bad)?),
                            2 => float = value.double(),
                            3 => ts = value.signed(),
                            _ => {}
                        }
                    }
                    // Exemplars do not fail a request.
                    let _ = request.exemplar(series, Labels::from_pairs(pairs), float, ts);
                }
                4 => {
                    let h = wire::histogram::read(value.bytes()).map_err(bad)?;
                    request
                        .histogram(series, h.ts, 0, h.value)
                        .map_err(refuse)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The message of the field at a place.
fn message_at(body: &[u8], at: usize) -> Result<&[u8], BadMessage> {
    let mut fields = Fields::new(body.get(at..).unwrap_or_default());
    let field = fields.next_field()?;
    Ok(field.map_or(&[], |(_, value)| value.bytes()))
}

/// The bytes of all label fields. They stand in front, one behind the other.
fn label_bytes(message: &[u8]) -> Result<&[u8], BadMessage> {
    let mut fields = Fields::new(message);
    loop {
        let before = message.len() - fields.rest().len();
        match fields.next_field()? {
            Some((1, _)) => {}
            Some(_) => {
                let later = |mut fields: Fields<'_>| -> Result<bool, BadMessage> {
                    while let Some((number, _)) = fields.next_field()? {
                        if number == 1 {
                            return Ok(true);
                        }
                    }
                    Ok(false)
                };
                // Nobody writes it so; then the whole message says who it is.
                let scattered = later(fields)?;
                let end = if scattered { message.len() } else { before };
                return Ok(message.get(..end).unwrap_or_default());
            }
            None => return Ok(message),
        }
    }
}

fn pair(mut fields: Fields<'_>) -> Result<(&str, &str), BadMessage> {
    let (mut name, mut text) = ("", "");
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => name = value.text()?,
            2 => text = value.text()?,
            _ => {}
        }
    }
    Ok((name, text))
}

fn read_labels(message: &[u8]) -> Result<Labels, BadLabels> {
    let mut pairs = Vec::with_capacity(16);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        if number == 1 {
            pairs.push(pair(value.fields())?);
        }
    }
    labels(&mut pairs)
}
