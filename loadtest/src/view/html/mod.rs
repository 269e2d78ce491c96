//! A report as one HTML file that needs nothing beside it: no script, no font, no picture from elsewhere.
//!
//! maud escapes every text that it is given, and the charts are SVG made by the same macro; the page's own policy forbids the
//! browser to load anything, should a report be made to try.

mod axis;
mod bars;
mod charts;
mod line;
mod page;

pub use page::render_html;
