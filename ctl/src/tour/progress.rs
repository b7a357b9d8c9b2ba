//! Progress bars on a terminal, plain lines elsewhere.

use crate::screen;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

const BYTES: &str = "  {msg:24} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
const COUNT: &str = "  {msg:24} [{bar:32}] {pos}/{len}, {eta} left";

/// A bar over bytes; invisible unless standard error is a terminal.
pub(crate) fn of_bytes(what: &str, total: u64) -> ProgressBar {
    bar(what, total, BYTES)
}

/// A bar over steps.
pub(crate) fn of_steps(what: &str, total: u64) -> ProgressBar {
    bar(what, total, COUNT)
}

/// Switch a bar between bytes and steps.
pub(crate) fn count_bytes(bar: &ProgressBar) {
    bar.set_style(style(BYTES));
}

fn bar(what: &str, total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_style(style(template)).with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Say what begins.
pub(crate) fn chapter(text: &str) {
    screen::line(&format!("\n== {text}"));
}

/// Megabytes per second.
pub(crate) fn rate(bytes: u64, since: Instant) -> f64 {
    bytes as f64 / 1e6 / since.elapsed().as_secs_f64().max(1e-6)
}
