//! The one binary. Everything it does is in the library of the same name.

use std::process::ExitCode;

#[cfg(feature = "cpu-profile")]
#[global_allocator]
static ALLOCATOR: app::profile::heap::Watched = app::profile::heap::Watched;

#[cfg(not(feature = "cpu-profile"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where the system gives huge pages unasked, a heap of small things would take twice the memory.
    // Whoever cannot be told so runs as well.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    app::run(
        std::env::args_os()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
    )
}
