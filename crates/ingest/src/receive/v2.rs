//! Remote write 2.0: `io.prometheus.write.v2.Request`.

use model::report::{Metadata, MetricType};
use model::{Labels, SeriesRef};
use wire::fields::{BadMessage, Fields, Value};

use super::keys::Key;
use super::write::{BadLabels, Request, Taken, labels, shared};
use super::{Inner, Refused};

/// The texts that a request refers to.
struct Symbols<'a> {
    texts: Vec<&'a str>,
    /// Their keys, 16 bytes each: a series' key is made of these.
    keys: Vec<Key>,
}

impl<'a> Symbols<'a> {
    fn get(&self, n: u64) -> Result<&'a str, BadMessage> {
        let n = usize::try_from(n).ok();
        let text = n.and_then(|n| self.texts.get(n).copied());
        text.ok_or(BadMessage::Reference)
    }
}

impl Inner {
    /// Takes what can be taken.
    pub(super) fn write_v2(&self, body: &[u8]) -> (Taken, Option<Refused>) {
        let mut request = self.request();
        request.reserve(body.len() / 32);
        let symbols = match self.symbols(body) {
            Ok(symbols) => symbols,
            Err(e) => return (Taken::default(), Some(undecodable(e))),
        };
        if let Err(e) = self.read_v2(body, &symbols, &mut request) {
            return (Taken::default(), Some(undecodable(e)));
        }
        self.finish(request, false, |at| {
            let mut fields = Fields::new(body.get(at..).unwrap_or_default());
            let (_, series) = fields.next_field().ok()??;
            read_labels(series.bytes(), &symbols).ok()
        })
    }

    fn symbols<'a>(&self, body: &'a [u8]) -> Result<Symbols<'a>, BadMessage> {
        let mut symbols = Symbols {
            texts: Vec::new(),
            keys: Vec::new(),
        };
        let mut fields = Fields::new(body);
        while let Some((number, value)) = fields.next_field()? {
            if number == 4 {
                symbols.keys.push(self.keys.key(value.bytes()));
                symbols.texts.push(value.text()?);
            }
        }
        Ok(symbols)
    }

    fn read_v2(
        &self,
        body: &[u8],
        symbols: &Symbols<'_>,
        request: &mut Request<'_>,
    ) -> Result<(), BadMessage> {
        let mut scratch = Vec::with_capacity(512);
        let mut fields = Fields::new(body);
        loop {
            let at = body.len() - fields.rest().len();
            let Some((number, value)) = fields.next_field()? else {
                return Ok(());
            };
            if number == 5 {
                self.series_v2(value.bytes(), at, symbols, &mut scratch, request)?;
            }
        }
    }

    fn series_v2(
        &self,
        message: &[u8],
        at: usize,
        symbols: &Symbols<'_>,
        scratch: &mut Vec<u8>,
        request: &mut Request<'_>,
    ) -> Result<(), BadMessage> {
        scratch.clear();
        let mut rows = 0;
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => value.each_varint(|n| {
                    // A reference that leads nowhere makes a key that nobody has.
                    let key = usize::try_from(n).ok().and_then(|n| symbols.keys.get(n));
                    scratch.extend_from_slice(&key.copied().unwrap_or(0).to_le_bytes());
                })?,
                2 | 3 => rows += 1,
                _ => {}
            }
        }
        let key = self.keys.key(scratch);
        let series = match request.series(key, at, || read_labels(message, symbols)) {
            Ok(series) => series,
            Err(error) => {
                self.counters.invalid_labels.add(rows);
                request.error(error.to_string());
                return Ok(());
            }
        };
        if rows == 0 {
            let labels = read_labels(message, symbols).unwrap_or_default();
            request.error(format!(
                "TimeSeries must contain at least one sample or histogram for series {labels}"
            ));
            return Ok(());
        }
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field()? {
            let taken = match number {
                2 => sample(value, series, request)?,
                3 => {
                    let h = wire::histogram::read(value.bytes())?;
                    request.histogram(series, h.ts, h.start, h.value)
                }
                4 => match exemplar(value, symbols)? {
                    Ok((labels, float, ts)) => request.exemplar(series, labels, float, ts),
                    Err(e) => {
                        let labels = read_labels(message, symbols).unwrap_or_default();
                        request.error(format!("parsing exemplar for series {labels}: {e}"));
                        continue;
                    }
                },
                5 if self.options.metadata => {
                    request.metadata(series, metadata(value, symbols)?);
                    continue;
                }
                _ => continue,
            };
            if let Err(reason) = taken {
                let labels = read_labels(message, symbols).unwrap_or_default();
                let reason = super::write::text(reason);
                request.error(format!("{reason} for series {labels}"));
            }
        }
        Ok(())
    }
}

#[cold]
fn undecodable(error: BadMessage) -> Refused {
    Refused::bad(format!("decoding the request: {error}"))
}

#[inline]
fn sample(
    value: Value<'_>,
    series: SeriesRef,
    request: &mut Request<'_>,
) -> Result<Result<(), model::Reject>, BadMessage> {
    let (mut float, mut ts, mut start) = (0.0, 0, 0);
    let mut fields = value.fields();
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => float = value.double(),
            2 => ts = value.signed(),
            3 => start = value.signed(),
            _ => {}
        }
    }
    Ok(request.sample(series, ts, start, float))
}

type Exemplar = (Labels, f64, i64);

fn exemplar(
    value: Value<'_>,
    symbols: &Symbols<'_>,
) -> Result<Result<Exemplar, BadMessage>, BadMessage> {
    let mut refs = Vec::with_capacity(4);
    let (mut float, mut ts) = (0.0, 0);
    let mut fields = value.fields();
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => value.each_varint(|n| refs.push(n))?,
            2 => float = value.double(),
            3 => ts = value.signed(),
            _ => {}
        }
    }
    Ok(pairs(&refs, symbols).map(|pairs| (Labels::from_pairs(pairs), float, ts)))
}

fn metadata(value: Value<'_>, symbols: &Symbols<'_>) -> Result<Metadata, BadMessage> {
    let (mut kind, mut help, mut unit) = (0, "", "");
    let mut fields = value.fields();
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => kind = value.number(),
            3 => help = symbols.get(value.number())?,
            4 => unit = symbols.get(value.number())?,
            _ => {}
        }
    }
    Ok(Metadata {
        kind: match kind {
            1 => MetricType::Counter,
            2 => MetricType::Gauge,
            3 => MetricType::Histogram,
            4 => MetricType::GaugeHistogram,
            5 => MetricType::Summary,
            6 => MetricType::Info,
            7 => MetricType::StateSet,
            _ => MetricType::Unknown,
        },
        help: shared(help),
        unit: shared(unit),
    })
}

fn pairs<'a>(refs: &[u64], symbols: &Symbols<'a>) -> Result<Vec<(&'a str, &'a str)>, BadMessage> {
    let (two, rest) = refs.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(BadMessage::Reference);
    }
    two.iter()
        .map(|[name, value]| Ok((symbols.get(*name)?, symbols.get(*value)?)))
        .collect()
}

fn read_labels(message: &[u8], symbols: &Symbols<'_>) -> Result<Labels, BadLabels> {
    let mut refs = Vec::with_capacity(32);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        if number == 1 {
            value.each_varint(|n| refs.push(n))?;
        }
    }
    labels(&mut pairs(&refs, symbols)?)
}
