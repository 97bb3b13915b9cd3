//! The bars of an image that is being pulled: one for the whole, one for each layer that is on its way.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::LayerPull;

/// Below this width rate and remaining time give way to the bar.
const WIDE_COLUMNS: u16 = 70;

/// Bars by image, and by its layers' numbers; 0 is the whole.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    bars: BTreeMap<(String, usize), ProgressBar>,
}

impl Pulls {
    /// Draws a pull; returns a line to print when it is one to remember.
    pub(super) fn event(
        &mut self,
        multi: &MultiProgress,
        columns: u16,
        image: &str,
        state: &str,
        (bytes, total): (u64, Option<u64>),
        note: Option<&str>,
    ) -> Option<String> {
        if matches!(state, "finished" | "cached") {
            self.clear_image(multi, image)?;
            return Some(format!("image {image} ready, {}", super::format::size(bytes)));
        }
        let bar = self.bar(multi, columns, (image, 0), total);
        let label = super::escape::fit(image, usize::from(columns / 3));
        bar.set_prefix(label);
        bar.set_message(note.map_or_else(String::new, |note| format!("{state}: {note}")));
        bar.set_position(bytes);
        None
    }

    /// Draws one layer of a pull.
    pub(super) fn layer(&mut self, multi: &MultiProgress, columns: u16, image: &str, layer: &LayerPull) {
        // An image of one layer is that layer.
        if layer.layers < 2 {
            return;
        }
        if layer.finished {
            if let Some(bar) = self.bars.remove(&(image.to_owned(), layer.number)) {
                bar.finish_and_clear();
                multi.remove(&bar);
            }
            return;
        }
        let bar = self.bar(multi, columns, (image, layer.number), layer.total);
        bar.set_prefix(format!("  layer {}/{}", layer.number, layer.layers));
        bar.set_position(layer.bytes);
    }

    fn bar(
        &mut self,
        multi: &MultiProgress,
        columns: u16,
        (image, number): (&str, usize),
        total: Option<u64>,
    ) -> &ProgressBar {
        let bar = self.bars.entry((image.to_owned(), number)).or_insert_with(|| {
            let bar = multi.add(ProgressBar::no_length());
            bar.set_style(style(columns, false));
            bar
        });
        if let Some(total) = total.filter(|&total| bar.length() != Some(total)) {
            bar.set_length(total);
            bar.set_style(style(columns, true));
        }
        bar
    }

    /// Takes an image's bars off the screen; `None` if there was none.
    fn clear_image(&mut self, multi: &MultiProgress, image: &str) -> Option<()> {
        let before = self.bars.len();
        self.bars.retain(|(of, _), bar| {
            if of == image {
                bar.finish_and_clear();
                multi.remove(bar);
            }
            of != image
        });
        (self.bars.len() < before).then_some(())
    }

    /// Takes all bars off the screen.
    pub(super) fn clear(&mut self, multi: &MultiProgress) {
        for (_, bar) in std::mem::take(&mut self.bars) {
            bar.finish_and_clear();
            multi.remove(&bar);
        }
    }
}

fn style(columns: u16, sized: bool) -> ProgressStyle {
    let template = match (sized, columns >= WIDE_COLUMNS) {
        (true, true) => {
            "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {msg}"
        }
        (true, false) => "{prefix} {wide_bar} {percent}% {msg}",
        (false, true) => "{prefix} {binary_bytes} {binary_bytes_per_sec} {msg}",
        (false, false) => "{prefix} {binary_bytes} {msg}",
    };
    // The templates are constants; a bad one would show as a bar without rates, not as a crash.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
