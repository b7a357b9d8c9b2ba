//! Progress bars on a terminal, plain lines elsewhere.

use crate::screen;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

const BYTES: &str = "  {msg:24} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
const COUNT: &str = "  {msg:24} [{bar:32}] {pos}/{len}, {eta} left";
const UNKNOWN: &str = "  {msg:24} {spinner} {elapsed}";

/// A bar over bytes; invisible unless standard error is a terminal.
pub(crate) fn of_bytes(what: &str, total: u64) -> ProgressBar {
    bar(what, total, BYTES)
}

/// A line for work whose size is not known yet.
pub(crate) fn of_unknown(what: &str) -> ProgressBar {
    bar(what, 0, UNKNOWN)
}

/// From now on: so many bytes of so many.
pub(crate) fn at_bytes(bar: &ProgressBar, done: u64, total: u64) {
    at(bar, done, total, BYTES);
}

/// From now on: so many steps of so many.
pub(crate) fn at_steps(bar: &ProgressBar, done: u64, total: u64) {
    at(bar, done, total, COUNT);
}

fn at(bar: &ProgressBar, done: u64, total: u64, template: &str) {
    if bar.length() != Some(total) {
        bar.set_style(style(template));
        bar.set_length(total);
    }
    bar.set_position(done);
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
