//! Single cells of the heavy columns, read directly from their Parquet pages.
//!
//! Training asks for rows in random order. A page holds one row's latents, or its image, and the file's offset index
//! says where each page lies. So a row costs its own bytes only, whatever the size of its row group. Files with
//! several rows in a page, compressed or not, can be read too, only slower.

use std::sync::Arc;

use bytemuck::Pod;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::SerializedPageReader;

use crate::store::Pieces;

type Result<T> = std::result::Result<T, String>;

/// One column of one row group.
pub struct Cells<'a> {
    pieces: &'a Arc<Pieces>,
    chunk: &'a ColumnChunkMetaData,
    pages: &'a [PageLocation],
    rows: usize,
}

/// The values of the page that holds a cell.
struct PageOf {
    /// The page's content, with its levels.
    bytes: Bytes,
    /// The cell's row, counted from the page's first.
    row: usize,
    /// Rows in the page.
    rows: usize,
}

/// Where the page that holds a cell lies.
struct PlaceOf<'a> {
    location: &'a PageLocation,
    /// The cell's row, counted from the page's first.
    row: usize,
    /// Rows in the page.
    rows: usize,
}

impl<'a> Cells<'a> {
    /// Column number `leaf` of row group `group`.
    pub fn new(pieces: &'a Arc<Pieces>, metadata: &'a ParquetMetaData, group: usize, leaf: usize) -> Result<Self> {
        let pages = metadata.page_index().and_then(|index| index.page_locations(group, leaf));
        let pages = pages.ok_or("it has no offset index, which this program always writes")?;
        let group = metadata.row_group(group);
        Ok(Self { pieces, chunk: group.column(leaf), pages, rows: group.num_rows() as usize })
    }

    /// Fills `numbers` from the list in `row`, which must have the same length.
    pub fn list<T: Pod>(&self, row: usize, numbers: &mut [T]) -> Result<()> {
        const { assert!(cfg!(target_endian = "little"), "Parquet's numbers are little-endian and are taken as they are") };
        if self.chunk.compression() == Compression::UNCOMPRESSED {
            return self.list_in_place(row, numbers);
        }
        let bytes = size_of_val(numbers);
        let page = self.page(row)?;
        // A page of lists begins with the repetition levels and the definition levels.
        let found = behind_levels(&page.bytes, 2)?;
        if found.len() != page.rows * bytes {
            return Err(format!("{} bytes of numbers, {} belong there", found.len(), page.rows * bytes));
        }
        bytemuck::cast_slice_mut(numbers).copy_from_slice(&found[page.row * bytes..(page.row + 1) * bytes]);
        Ok(())
    }

    /// As [`Cells::list`], for pages that are not compressed: a page ends with its last row's numbers, so its
    /// beginning need not be read.
    fn list_in_place<T: Pod>(&self, row: usize, numbers: &mut [T]) -> Result<()> {
        self.part(row, numbers.len(), numbers.len(), 0, numbers)
    }

    /// Fills `numbers` from the `width` numbers in `row`, beginning at number `first`. They are `values` values of
    /// Parquet: as many in a list, one in a binary. The column must not be compressed.
    pub fn part<T: Pod>(&self, row: usize, width: usize, values: usize, first: usize, numbers: &mut [T]) -> Result<()> {
        if self.chunk.compression() != Compression::UNCOMPRESSED || first + numbers.len() > width {
            return Err(format!("numbers {first} to {} cannot be read by themselves", first + numbers.len()));
        }
        let plain = |encoding: Encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE);
        if !self.chunk.encodings().all(plain) {
            return Err("it is not written plain, as this program writes it".into());
        }
        if self.chunk.num_values() != (self.rows * values) as i64 {
            return Err(format!("{} values for {} rows of {values}", self.chunk.num_values(), self.rows));
        }
        let PlaceOf { location, row, rows } = self.place(row)?;
        let behind = (((rows - row) * width - first) * size_of::<T>()) as i64;
        let end = location.offset + i64::from(location.compressed_page_size);
        let start = u64::try_from(end - behind).map_err(|_| "its offset index is damaged")?;
        self.pieces.read_exact_at(bytemuck::cast_slice_mut(numbers), start).map_err(|e| e.to_string())
    }

    /// The bytes in `row`.
    pub fn bytes(&self, row: usize) -> Result<Bytes> {
        let page = self.page(row)?;
        // A column that may hold nulls has definition levels.
        let mut rest = behind_levels(&page.bytes, 1)?;
        for _ in 0..page.row {
            rest = split_prefixed(rest)?.1;
        }
        Ok(page.bytes.slice_ref(split_prefixed(rest)?.0))
    }

    fn page(&self, row: usize) -> Result<PageOf> {
        let PlaceOf { location, row, rows } = self.place(row)?;
        match self.read(location)? {
            Page::DataPage { buf, encoding: Encoding::PLAIN, .. } => Ok(PageOf { bytes: buf, row, rows }),
            other => Err(format!("a page in {}, which this program does not write", other.encoding())),
        }
    }

    fn place(&self, row: usize) -> Result<PlaceOf<'_>> {
        if row >= self.rows {
            return Err(format!("row {row} does not exist, the row group has {}", self.rows));
        }
        let next = self.pages.partition_point(|page| page.first_row_index <= row as i64);
        let location = next.checked_sub(1).and_then(|n| self.pages.get(n)).ok_or("its offset index is empty")?;
        let first = usize::try_from(location.first_row_index).map_err(|_| "its offset index is damaged")?;
        let end = self.pages.get(next).map_or(self.rows, |page| page.first_row_index as usize);
        Ok(PlaceOf { location, row: row - first, rows: end.saturating_sub(first) })
    }

    fn read(&self, location: &PageLocation) -> Result<Page> {
        let pages = Some(vec![location.clone()]);
        let reader = SerializedPageReader::new(self.pieces.clone(), self.chunk, self.rows, pages);
        let mut reader = reader.map_err(|e| e.to_string())?;
        if location.offset as u64 != self.chunk.byte_range().0 {
            // The reader takes everything before its first page for a dictionary.
            reader.skip_next_page().map_err(|e| e.to_string())?;
        }
        reader.get_next_page().map_err(|e| e.to_string())?.ok_or_else(|| "a page is missing".into())
    }
}

/// What follows `count` kinds of levels.
fn behind_levels(mut page: &[u8], count: usize) -> Result<&[u8]> {
    for _ in 0..count {
        page = split_prefixed(page)?.1;
    }
    Ok(page)
}

/// The bytes whose length stands in the first four, and the rest.
fn split_prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let prefixed = bytes.split_first_chunk::<4>();
    let split = prefixed.and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
    split.ok_or_else(|| "a page ends too early".into())
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use half::f16;
    use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Compression;
    use parquet::file::metadata::PageIndexPolicy;
    use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

    use super::*;
    use crate::format::columns::batch_from_rows;
    use crate::format::row::tests::row;
    use crate::format::row::Row;
    use crate::format::schema::{schema, Widths, CLIP, IMAGE};
    use crate::store::{Access, Store};

    fn rows() -> Vec<Row> {
        let numbered = |n: u16| {
            let mut row = row(&format!("{n}.png"));
            row.image = vec![n as u8; usize::from(n) % 7].into();
            row.encoding.clip_embedding = Some((0..8).map(|k| f16::from_f32(f32::from(8 * n + k))).collect());
            row
        };
        (0..40).map(numbered).collect()
    }

    fn file(folder: &std::path::Path, properties: WriterPropertiesBuilder) -> (Arc<Pieces>, ArrowReaderMetadata) {
        let rows = rows();
        let schema = Arc::new(schema(Widths { latent: 16, clip: Some(8) }));
        let batch: RecordBatch = batch_from_rows(schema.clone(), &rows.iter().collect::<Vec<_>>()).expect("a batch");
        let sink = std::fs::File::create(folder.join("a")).expect("created");
        let mut writer = ArrowWriter::try_new(sink, schema, Some(properties.build())).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let store = Store::open(&folder.to_string_lossy(), &Access::default()).expect("a folder");
        let pieces = store.open_file("a", "").expect("readable").expect("there");
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load(&pieces, options).expect("a footer");
        (Arc::new(pieces), metadata)
    }

    fn leaf(metadata: &ArrowReaderMetadata, name: &str) -> usize {
        metadata.parquet_schema().columns().iter().position(|l| l.path().parts()[0] == name).expect("there")
    }

    #[test]
    fn any_number_of_rows_to_a_page_reads_back_compressed_or_not() {
        let plain = || WriterProperties::builder().set_dictionary_enabled(false);
        for properties in [
            plain(),
            plain().set_compression(Compression::SNAPPY).set_data_page_row_count_limit(7).set_write_batch_size(1),
            plain().set_data_page_row_count_limit(1).set_write_batch_size(1),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let (pieces, metadata) = file(folder.path(), properties);
            let cells = |name| Cells::new(&pieces, metadata.metadata(), 0, leaf(&metadata, name)).expect("a column");
            let (images, embeddings) = (cells(IMAGE), cells(CLIP));
            for (n, row) in rows().iter().enumerate() {
                assert_eq!(images.bytes(n), Ok(row.image.clone()));
                let mut numbers = [f16::NAN; 8];
                embeddings.list(n, &mut numbers).expect("readable");
                assert_eq!(Some(&numbers[..]), row.encoding.clip_embedding.as_deref());
            }
            assert!(embeddings.list(0, &mut [f16::ZERO; 9]).is_err(), "another width is refused");
            assert!(
                embeddings.list(40, &mut [f16::ZERO; 8]).is_err() && images.bytes(40).is_err(),
                "there are 40 rows"
            );
        }
    }

    #[test]
    fn a_dictionary_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pieces, metadata) = file(folder.path(), WriterProperties::builder());
        let cells = Cells::new(&pieces, metadata.metadata(), 0, leaf(&metadata, IMAGE)).expect("a column");
        assert!(cells.bytes(3).expect_err("a dictionary").contains("DICTIONARY"));
    }
}
