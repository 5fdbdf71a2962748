//! How fast bodies are read: from scratch, and knowing what stood there last time.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scrape::parse::{Event, Format, Parser};

fn body() -> Vec<u8> {
    let mut out = String::new();
    for family in 0..60 {
        out += &format!("# HELP app_requests_{family}_total What it counts.\n");
        out += &format!("# TYPE app_requests_{family}_total counter\n");
        for i in 0..30 {
            out += &format!(
                "app_requests_{family}_total{{method=\"GET\",path=\"/api/v1/items/{i}\",code=\"200\",zone=\"eu-{}\"}} {}\n",
                i % 3,
                f64::from(i * 7919 + family) * if i % 4 == 0 { 0.37 } else { 1.0 },
            );
        }
    }
    out.into_bytes()
}

fn parse(c: &mut Criterion) {
    let body = body();
    let mut texts: Vec<&[u8]> = Vec::new();
    let mut parser = Parser::new(&body, Format::Text);
    while let Ok(Some(event)) = parser.next_event() {
        if let Event::Series(s) = event {
            texts.push(s.text);
        }
    }
    let mut group = c.benchmark_group("text");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("from scratch", |b| {
        b.iter(|| {
            let mut parser = Parser::new(&body, Format::Text);
            let mut sum = 0.0;
            while let Ok(Some(event)) = parser.next_event() {
                if let Event::Series(s) = event {
                    sum += s.value;
                }
            }
            sum
        });
    });
    group.bench_function("as last time", |b| {
        b.iter(|| {
            let mut parser = Parser::new(&body, Format::Text);
            let (mut sum, mut next) = (0.0, 0);
            while let Ok(Some(event)) = parser.next_expecting(texts.get(next).unwrap_or(&&b""[..]))
            {
                if let Event::Series(s) = event {
                    sum += s.value;
                    next += 1;
                }
            }
            sum
        });
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
