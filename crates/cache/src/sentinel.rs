//! Redis Sentinel: a few processes that watch a master and its replicas, and know which one is the master now.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::lines::Lines;
use crate::redis::{bulk, command, number};
use crate::remote::{Dial, Io, broken};

/// Connections to the master that is called `master`, wherever it is now: whatever address is asked for, the `sentinels`
/// are asked in turn (by `ask`, each for so long), and the master that the first of them knows is dialled with `dial`. A
/// master that was replaced refuses what is to be stored; the connection is given up then, and the next one leads to its
/// successor.
pub fn sentinel(
    master: String,
    sentinels: Vec<String>,
    each: Duration,
    ask: Dial,
    dial: Dial,
) -> Dial {
    let known: Arc<(String, Vec<String>)> = Arc::new((master, sentinels));
    Arc::new(move |_| {
        let (known, ask, dial) = (Arc::clone(&known), Arc::clone(&ask), Arc::clone(&dial));
        Box::pin(async move {
            let (master, sentinels) = &*known;
            let mut last = broken("no sentinel is named");
            for address in sentinels {
                let asked = async {
                    let mut io = ask(address.clone()).await?;
                    master_of(&mut *io, master).await
                };
                match tokio::time::timeout(each, asked).await {
                    Ok(Ok(found)) => return dial(found).await,
                    Ok(Err(e)) => {
                        last = io::Error::new(e.kind(), format!("sentinel {address}: {e}"))
                    }
                    Err(_) => last = broken(&format!("sentinel {address} does not answer")),
                }
            }
            Err(last)
        })
    })
}

/// `host:port` of the master of that name.
async fn master_of(io: &mut dyn Io, name: &str) -> io::Result<String> {
    let mut out = Vec::new();
    command(
        &mut out,
        &[b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()],
    );
    io.write_all(&out).await?;
    let mut lines = Lines::new(io);
    if number(&mut lines, b'*').await? != 2 {
        return Err(broken(&format!("it knows no master called {name:?}")));
    }
    let mut text = async || {
        let word = bulk(&mut lines).await?.unwrap_or_default();
        String::from_utf8(word.to_vec()).map_err(|_| broken("an address is no text"))
    };
    let (host, port) = (text().await?, text().await?);
    Ok(match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}
