//! Where the files of a log come from.

use std::io;

use crate::layout::Tile;

/// Reads the files of a log. A function from a path to its content is one.
pub trait Source {
    /// The content of the file at `path`, which is relative to the log, with `/` between its parts; `None` if there is none.
    ///
    /// # Errors
    /// What the file system, or whatever else it is, says.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
}

impl<F: Fn(&str) -> io::Result<Option<Vec<u8>>>> Source for F {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self(path)
    }
}

/// What a tile's file holds, and which file that was.
pub(crate) type TileRead = (Vec<u8>, Tile);

/// A tile by its path; when only a wider one is left, that: a partial tile may be removed once it is full.
pub(crate) fn read_tile(source: &impl Source, tile: Tile) -> Result<Option<TileRead>, (String, io::Error)> {
    for tile in [tile, tile.full()] {
        let path = tile.to_string();
        if let Some(bytes) = source.read(&path).map_err(|error| (path, error))? {
            return Ok(Some((bytes, tile)));
        }
    }
    Ok(None)
}
