//! Chunks without some of their samples.

use chunk::{ChunkError, Chunker, Columns, EncodedChunk};
use model::{Encoding, Millis};

/// The samples of a chunk for whose time `stays` holds: one chunk, several where histograms do not fit
/// together any more, or none.
pub(crate) fn without(
    encoding: Encoding,
    bytes: &[u8],
    mut stays: impl FnMut(Millis) -> bool,
) -> Result<Vec<EncodedChunk>, ChunkError> {
    let mut chunker = Chunker::default();
    // What was one chunk stays one.
    chunker.set_limit(usize::MAX);
    chunker.set_xor2(encoding == Encoding::XOR2);
    if encoding == Encoding::XOR || encoding == Encoding::XOR2 {
        let mut columns = Columns::default();
        chunk::decode(encoding, bytes, &mut columns)?;
        for (i, (ts, value)) in columns.iter().enumerate().filter(|(_, s)| stays(s.0)) {
            chunker.float(ts, columns.start(i), value);
        }
    } else {
        for row in chunk::histogram::rows(encoding, bytes)? {
            if stays(row.ts) {
                chunker.histogram(&row)?;
            }
        }
    }
    Ok(chunker.finish())
}
