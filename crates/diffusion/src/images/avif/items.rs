//! The items of a HEIF file (ISO/IEC 14496-12, sec. 8.11; ISO/IEC 23008-12; MIAF, ISO/IEC 23000-22): pictures, their
//! properties, what refers to what, and where their data lies.

use std::borrow::Cow;

/// More than files have; each is looked for among all.
const MOST_ITEMS: usize = 4096;

/// The name of a box, an item type, a property or a reference.
pub type Name = [u8; 4];

/// What the box `meta` says.
#[derive(Default)]
pub struct Items<'a> {
    content: &'a [u8],
    primary: u32,
    types: Vec<(u32, Name)>,
    locations: Vec<Location>,
    references: Vec<Reference>,
    properties: Vec<Property<'a>>,
    associations: Vec<Association>,
    inline: &'a [u8], // idat
}

/// A property of an item.
#[derive(Clone, Copy)]
pub struct Property<'a> {
    /// The box's name.
    pub name: Name,
    /// Its content.
    pub data: &'a [u8],
}

struct Location {
    item: u32,
    /// Where offsets count from: 0 for the file, 1 for `idat`.
    method: u16,
    extents: Vec<(u64, u64)>, // offset, length; 0 for all that is there
}

struct Reference {
    name: Name,
    from: u32,
    to: Vec<u32>,
}

struct Association {
    item: u32,
    property: usize,
    essential: bool,
}

impl<'a> Items<'a> {
    /// Reads the boxes; the error says what is wrong with the file.
    pub fn parse(content: &'a [u8]) -> Result<Self, String> {
        let meta = boxes(content).find(|found| found.name == *b"meta").ok_or("it has no still picture")?;
        let mut items = Self { content, ..Self::default() };
        items.read(meta.data).ok_or("its list of pictures is cut off or damaged")?;
        if items.types.len().max(items.associations.len()) > MOST_ITEMS {
            return Err(format!("it holds more than {MOST_ITEMS} items"));
        }
        Ok(items)
    }

    fn read(&mut self, meta: &'a [u8]) -> Option<()> {
        for Property { name, data } in boxes(meta.get(4..)?) {
            let mut reader = Reader(data);
            match &name {
                b"pitm" => {
                    let wide = reader.version_and_flags()?.0 > 0;
                    self.primary = reader.id(wide)?;
                }
                b"iinf" => self.read_types(reader)?,
                b"iloc" => self.read_locations(reader)?,
                b"iref" => self.read_references(reader)?,
                b"iprp" => self.read_properties(data)?,
                b"idat" => self.inline = data,
                _ => {}
            }
        }
        Some(())
    }

    fn read_types(&mut self, mut reader: Reader<'a>) -> Option<()> {
        let (version, _) = reader.version_and_flags()?;
        reader.id(version > 0)?; // how many there are
        for entry in boxes(reader.0).filter(|entry| entry.name == *b"infe") {
            let mut reader = Reader(entry.data);
            let (version, _) = reader.version_and_flags()?;
            if version < 2 {
                continue; // without a type: no picture
            }
            let item = reader.id(version > 2)?;
            reader.number(2)?; // protection
            self.types.push((item, *reader.bytes(4)?.first_chunk()?));
        }
        Some(())
    }

    fn read_locations(&mut self, mut reader: Reader<'a>) -> Option<()> {
        let (version, _) = reader.version_and_flags()?;
        let sizes = reader.number(2)? as usize;
        let [offset, length, base, index] = [12, 8, 4, 0].map(|shift| sizes >> shift & 15);
        let index = if version > 0 { index } else { 0 };
        for _ in 0..reader.id(version > 1)? {
            let item = reader.id(version > 1)?;
            let method = if version > 0 { reader.number(2)? as u16 & 15 } else { 0 };
            // Data in another file counts as data in no place.
            let method = if reader.number(2)? == 0 { method } else { u16::MAX };
            let start = reader.number(base)?;
            let mut extents = Vec::new();
            for _ in 0..reader.number(2)? {
                reader.number(index)?;
                extents.push((start.checked_add(reader.number(offset)?)?, reader.number(length)?));
                // Without sizes an extent takes no bytes here, and there could be any number.
                (extents.len() <= MOST_ITEMS).then_some(())?;
            }
            self.locations.push(Location { item, method, extents });
            (self.locations.len() <= MOST_ITEMS).then_some(())?;
        }
        Some(())
    }

    fn read_references(&mut self, mut reader: Reader<'a>) -> Option<()> {
        let wide = reader.version_and_flags()?.0 > 0;
        for Property { name, data } in boxes(reader.0) {
            let mut reader = Reader(data);
            let from = reader.id(wide)?;
            let count = reader.number(2)?;
            let to = (0..count).map(|_| reader.id(wide)).collect::<Option<Vec<u32>>>()?;
            self.references.push(Reference { name, from, to });
        }
        Some(())
    }

    fn read_properties(&mut self, iprp: &'a [u8]) -> Option<()> {
        for part in boxes(iprp) {
            match &part.name {
                b"ipco" => self.properties.extend(boxes(part.data)),
                b"ipma" => self.read_associations(Reader(part.data))?,
                _ => {}
            }
        }
        Some(())
    }

    fn read_associations(&mut self, mut reader: Reader<'a>) -> Option<()> {
        let (version, flags) = reader.version_and_flags()?;
        let (size, essential) = if flags & 1 == 1 { (2, 0x8000) } else { (1, 0x80) };
        for _ in 0..reader.number(4)? {
            let item = reader.id(version > 0)?;
            for _ in 0..reader.number(1)? {
                let number = reader.number(size)? as usize;
                let property = (number & (essential - 1)).checked_sub(1); // 0: none
                self.associations.extend(property.map(|property| Association {
                    item,
                    property,
                    essential: number & essential != 0,
                }));
            }
        }
        Some(())
    }

    /// The item that is the picture.
    pub fn primary(&self) -> u32 {
        self.primary
    }

    /// An item's type.
    pub fn type_of(&self, item: u32) -> Option<Name> {
        self.types.iter().find(|(id, _)| *id == item).map(|(_, name)| *name)
    }

    /// An item's properties in their order, and whether a reader must know them.
    pub fn properties(&self, item: u32) -> impl Iterator<Item = (Property<'a>, bool)> + '_ {
        let of_item = self.associations.iter().filter(move |association| association.item == item);
        of_item.filter_map(|found| Some((*self.properties.get(found.property)?, found.essential)))
    }

    /// The content of an item's first property of this name.
    pub fn property(&self, item: u32, name: &Name) -> Option<&'a [u8]> {
        self.properties(item).find(|(property, _)| property.name == *name).map(|(property, _)| property.data)
    }

    /// The items to which `from` refers by a name, in their order.
    pub fn referred(&self, name: &Name, from: u32) -> &[u32] {
        let found = self.references.iter().find(|reference| reference.name == *name && reference.from == from);
        found.map_or(&[], |reference| &reference.to)
    }

    /// The items that refer to `to` by a name.
    pub fn referring<'s>(&'s self, name: &'s Name, to: u32) -> impl Iterator<Item = u32> + 's {
        let of_name = self.references.iter().filter(move |reference| reference.name == *name);
        of_name.filter(move |reference| reference.to.contains(&to)).map(|reference| reference.from)
    }

    /// An item's data. The error says why there is none.
    pub fn data(&self, item: u32) -> Result<Cow<'a, [u8]>, String> {
        let location = self.locations.iter().find(|location| location.item == item).ok_or("a part of it is missing")?;
        let all = match location.method {
            0 => self.content,
            1 => self.inline,
            _ => return Err("a part of it lies in another item or another file, which is not read".into()),
        };
        let part = |&(offset, length): &(u64, u64)| {
            let rest = all.get(usize::try_from(offset).ok()?..)?;
            if length == 0 {
                Some(rest)
            } else {
                rest.get(..usize::try_from(length).ok()?)
            }
        };
        let parts: Option<Vec<&[u8]>> = location.extents.iter().map(part).collect();
        let parts = parts.ok_or("it is cut off")?;
        // Extents may name the same bytes again and again.
        if parts.iter().map(|part| part.len()).sum::<usize>() > all.len() {
            return Err("its parts overlap".into());
        }
        Ok(match parts[..] {
            [whole] => Cow::Borrowed(whole),
            _ => Cow::Owned(parts.concat()),
        })
    }
}

/// The boxes that follow one another in `content`, as far as they are whole.
fn boxes(content: &[u8]) -> impl Iterator<Item = Property<'_>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let mut reader = Reader(rest);
        let (size, name) = (reader.number(4)?, *reader.bytes(4)?.first_chunk()?);
        let size = match size {
            0 => rest.len() as u64, // to the end
            1 => reader.number(8)?,
            size => size,
        };
        let head = rest.len() - reader.0.len();
        let data = rest.get(head..usize::try_from(size).ok()?)?;
        rest = &rest[head + data.len()..];
        Some(Property { name, data })
    })
}

/// Numbers in big-endian order.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Of at most eight bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.bytes(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn version_and_flags(&mut self) -> Option<(u64, u64)> {
        let number = self.number(4)?;
        Some((number >> 24, number & 0xFF_FFFF))
    }

    /// The number of an item, or how many there are.
    fn id(&mut self, wide: bool) -> Option<u32> {
        self.number(if wide { 4 } else { 2 })?.try_into().ok()
    }
}
