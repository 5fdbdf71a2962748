use bytes::Bytes;
use model::source::Aggregate;
use model::{ChunkRef, Encoding, Labels, SeriesBatch, Symbols};
use prost::Message as _;

use super::*;
use crate::proto::thanos as pb;

/// The message as generated code would read it, were it not replaced by [`Frame`].
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    series: Option<pb::Series>,
    #[prost(string, optional, tag = "2")]
    warning: Option<String>,
    #[prost(message, optional, tag = "4")]
    batch: Option<pb::SeriesBatch>,
}

fn chunk(min: i64, max: i64, lane: u16, aggregate: Aggregate, offset: u32, len: u32) -> ChunkRef {
    ChunkRef {
        min,
        max,
        encoding: Encoding::XOR,
        aggregate,
        lane,
        buffer: 0,
        offset,
        len,
    }
}

fn sample(symbols: &Symbols) -> SeriesBatch {
    let mut batch = SeriesBatch::default();
    for i in 0..5 {
        let labels =
            Labels::from_pairs([("__name__", "up".to_owned()), ("i", (i / 2).to_string())]);
        symbols.intern_labels(&labels, &mut batch.labels);
        batch
            .chunks
            .push(chunk(-5, 10, 0, Aggregate::Raw, i * 10, 10));
        batch
            .chunks
            .push(chunk(11, 20, 0, Aggregate::Raw, 50 + i, 7));
        batch
            .chunks
            .push(chunk(11, 20, 1, Aggregate::Count, 60 + i, 7));
        batch
            .chunks
            .push(chunk(11, 20, 1, Aggregate::Sum, 61 + i, 7));
        batch.finish_series();
    }
    batch
        .buffers
        .push(Bytes::from((0..100u8).collect::<Vec<_>>()));
    batch
}

fn frames(batch: &SeriesBatch, symbols: &Symbols, per_frame: usize) -> Vec<Frame> {
    let mut encoder = Encoder::new(per_frame);
    for i in 0..batch.len() {
        encoder.series(batch, i, symbols);
    }
    encoder.flush();
    encoder.ready().collect()
}

#[test]
fn what_is_written_is_what_generated_code_reads() {
    let symbols = Symbols::default();
    let batch = sample(&symbols);
    let frames = frames(&batch, &symbols, 0);
    assert_eq!(frames.len(), 5);
    for (i, frame) in frames.iter().enumerate() {
        let series = Response::decode(&frame.0[..]).unwrap().series.unwrap();
        assert_eq!(
            crate::convert::labels(&series.labels),
            batch.label_set(i, &symbols)
        );
        assert_eq!(series.chunks.len(), 3);
        let raw = series.chunks[0].raw.as_ref().unwrap();
        assert_eq!(
            (series.chunks[0].min_time, series.chunks[0].max_time),
            (-5, 10)
        );
        assert_eq!(raw.data, &batch.buffers[0][i * 10..i * 10 + 10]);
        assert_eq!(raw.hash, xxhash_rust::xxh64::xxh64(&raw.data, 0));
        assert!(series.chunks[2].count.is_some() && series.chunks[2].sum.is_some());
        assert_eq!(series.chunks[2].raw, None);
        // Equal labels follow each other with lanes of their own.
        let lane = if i % 2 == 1 { 3 } else { 1 };
        assert_eq!(
            (series.chunks[0].lane, series.chunks[2].lane),
            (lane, lane + 1)
        );
    }
}

#[test]
fn what_is_written_is_read_back_by_either_form() {
    let symbols = Symbols::default();
    let batch = sample(&symbols);
    for per_frame in [0, 2, 3, 64] {
        let frames = frames(&batch, &symbols, per_frame);
        assert_eq!(frames.len(), 5usize.div_ceil(per_frame.max(1)));
        let (mut back, other) = (SeriesBatch::default(), Symbols::default());
        let mut decoder = Decoder::default();
        for frame in &frames {
            assert_eq!(decoder.read(frame, &other, &mut back).unwrap(), None);
        }
        assert!(decoder.lanes);
        assert_eq!(back.len(), batch.len());
        assert_eq!(back.buffers.len(), frames.len(), "one buffer a message");
        for i in 0..batch.len() {
            assert_eq!(back.label_set(i, &other), batch.label_set(i, &symbols));
            let (a, b) = (batch.chunks_of(i), back.chunks_of(i));
            assert_eq!(a.len(), b.len());
            for (a, b) in a.iter().zip(b) {
                assert_eq!(
                    (a.min, a.max, a.encoding, a.aggregate),
                    (b.min, b.max, b.encoding, b.aggregate)
                );
                assert_eq!(batch.bytes_of(a), back.bytes_of(b));
            }
        }
    }
}

#[test]
fn long_series_are_cut_between_chunks() {
    let symbols = Symbols::default();
    let mut batch = SeriesBatch::default();
    symbols.intern_labels(&Labels::from_pairs([("a", "b")]), &mut batch.labels);
    for i in 0..40 {
        batch
            .chunks
            .push(chunk(i, i, 0, Aggregate::Raw, 0, 100_000));
    }
    batch.finish_series();
    batch.buffers.push(Bytes::from(vec![7; 100_000]));
    let frames = frames(&batch, &symbols, 64);
    assert_eq!(frames.len(), 4);
    let (mut back, other) = (SeriesBatch::default(), Symbols::default());
    let mut decoder = Decoder::default();
    for frame in &frames {
        decoder.read(frame, &other, &mut back).unwrap();
    }
    assert_eq!(
        back.chunks.iter().map(|c| c.min).collect::<Vec<_>>(),
        (0..40).collect::<Vec<_>>()
    );
    assert!(back.chunks.iter().all(|c| c.lane == 0));
}

#[test]
fn an_aggregate_chunk_is_sent_by_columns() {
    let symbols = Symbols::default();
    let mut batch = SeriesBatch::default();
    symbols.intern_labels(&Labels::from_pairs([("a", "b")]), &mut batch.labels);
    let bytes = vec![
        9, 9, 3, 1, b'c', b'n', b't', 0, 2, 1, b'm', b'i', 0, 1, 1, b'x',
    ];
    batch.chunks.push(ChunkRef {
        encoding: Encoding::AGGREGATE,
        ..chunk(0, 1, 0, Aggregate::Raw, 2, bytes.len() as u32 - 2)
    });
    batch.finish_series();
    batch.buffers.push(Bytes::from(bytes));
    let frames = frames(&batch, &symbols, 0);
    let series = Response::decode(&frames[0].0[..]).unwrap().series.unwrap();
    let data = |c: &Option<pb::Chunk>| c.as_ref().map(|c| c.data.to_vec());
    let chunk = &series.chunks[0];
    assert_eq!(data(&chunk.count), Some(b"cnt".to_vec()));
    assert_eq!(data(&chunk.sum), None);
    assert_eq!(data(&chunk.min), Some(b"mi".to_vec()));
    assert_eq!(data(&chunk.counter), Some(b"x".to_vec()));
}

#[test]
fn disorder_is_put_right_and_warnings_are_told() {
    let label = |n: &str, v: &str| pb::Label {
        name: n.into(),
        value: v.into(),
    };
    let series = pb::Series {
        labels: vec![
            label("b", "1"),
            label("a", "2"),
            label("c", ""),
            label("a", "3"),
        ],
        chunks: vec![],
    };
    let frame = Frame(
        Response {
            series: Some(series),
            ..Default::default()
        }
        .encode_to_vec()
        .into(),
    );
    let (mut batch, symbols) = (SeriesBatch::default(), Symbols::default());
    let mut decoder = Decoder::default();
    decoder.read(&frame, &symbols, &mut batch).unwrap();
    assert_eq!(
        batch.label_set(0, &symbols),
        Labels::from_pairs([("a", "3"), ("b", "1")])
    );
    let note = decoder
        .read(&warning("slow"), &symbols, &mut batch)
        .unwrap();
    assert_eq!(note, Some(Note::Warning("slow".into())));
    assert_eq!(
        decoder.read(&hints(&[]), &symbols, &mut batch).unwrap(),
        Some(Note::Hints)
    );
}

#[test]
fn no_frame_can_hurt() {
    let symbols = Symbols::default();
    let batch = sample(&symbols);
    let whole = &frames(&batch, &symbols, 3)[0].0;
    let mut seed = 1u64;
    for round in 0..20_000 {
        let mut bytes = whole.to_vec();
        for _ in 0..3 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] = (seed >> 20) as u8;
        }
        bytes.truncate(bytes.len() - round % bytes.len().min(50));
        let mut back = SeriesBatch::default();
        let _ = Decoder::default().read(&Frame(bytes.into()), &symbols, &mut back);
        for i in 0..back.len() {
            for chunk in back.chunks_of(i) {
                back.bytes_of(chunk);
            }
            back.label_set(i, &symbols);
        }
    }
}
