//! Numbered cells in pages: growing never moves a cell and never stalls a turn, freed cells are used
//! again, the last freed first, and a page that holds nothing goes back to the allocator. What a cell
//! is while it is free its own type knows ([`Cell`]). A page is an array of a power of two, so that a
//! number leads to its cell by a shift, a mask and one comparison.

const NIL: u32 = u32::MAX;

/// What lies in a page.
pub(super) trait Cell {
    /// A free cell that leads to the cell `next` of its page, and has been used `generation` times.
    fn free(next: u32, generation: u32) -> Self;

    /// What [`Cell::free`] was told, if the cell is free; cells that keep no generation say 0.
    fn as_free(&self) -> Option<(u32, u32)>;
}

/// What is known of a page beside its cells.
#[derive(Debug)]
struct Page {
    /// Number within the page of the first free cell, which leads to the others.
    free: u32,
    n_live: u32,
    /// Generation of its cells when the page is taken again: above any that one of them had.
    generation: u32,
    /// Neighbours in the list of pages with free cells.
    prev: u32,
    next: u32,
}

/// All cells of a kind, `N` to a page.
#[derive(Debug)]
pub(super) struct Pages<T, const N: usize> {
    /// The cells of every page, apart from the rest: whoever looks for a cell reads nothing else.
    cells: Vec<Option<Box<[T; N]>>>,
    pages: Vec<Page>,
    /// First of the pages that have a free cell.
    open: u32,
    /// First of the numbers of pages that have been given back, through `next`.
    gone: u32,
    n_gone: u32,
    /// A page that holds nothing and is kept, so that one connection which comes and goes does not
    /// take and give a page each time.
    spare: u32,
    len: u32,
}

impl<T: Cell, const N: usize> Pages<T, N> {
    pub(super) const fn new() -> Self {
        const { assert!(N.is_power_of_two()) };
        Pages {
            cells: Vec::new(),
            pages: Vec::new(),
            open: NIL,
            gone: NIL,
            n_gone: 0,
            spare: NIL,
            len: 0,
        }
    }

    /// Live cells.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Cell numbers are below this.
    pub(super) fn n_cells(&self) -> u32 {
        (self.pages.len() * N) as u32
    }

    /// Bytes of memory that the pages take.
    pub(super) fn bytes(&self) -> usize {
        let n_held = self.pages.len() - self.n_gone as usize;
        let per_page = size_of::<Page>() + size_of::<Option<Box<[T; N]>>>();
        n_held * N * size_of::<T>() + self.pages.len() * per_page
    }

    /// Puts what `make` makes, of the generation of its cell, into a free cell; its number.
    pub(super) fn insert(&mut self, make: impl FnOnce(u32) -> T) -> u32 {
        if self.open == NIL {
            self.add_page();
        }
        let number = self.open;
        if self.spare == number {
            self.spare = NIL;
        }
        let page = &mut self.pages[number as usize];
        let idx = page.free;
        let cell = &mut held_mut(&mut self.cells, number)[idx as usize];
        let (next, generation) = cell.as_free().expect("the free list leads to free cells only");
        *cell = make(generation);
        page.free = next;
        page.n_live += 1;
        if next == NIL {
            self.close(number);
        }
        self.len += 1;
        number * N as u32 + idx
    }

    /// Frees a live cell of this `generation`.
    pub(super) fn remove(&mut self, cell: u32, generation: u32) {
        let (number, idx) = Self::split(cell);
        let page = &mut self.pages[number as usize];
        let cell = &mut held_mut(&mut self.cells, number)[idx];
        debug_assert!(cell.as_free().is_none(), "only live cells are freed");
        let generation = generation.wrapping_add(1);
        *cell = T::free(page.free, generation);
        page.generation = page.generation.max(generation);
        let was_full = page.free == NIL;
        page.free = idx as u32;
        page.n_live -= 1;
        let is_empty = page.n_live == 0;
        self.len -= 1;
        if was_full {
            self.reopen(number);
        }
        if is_empty {
            self.give_back(number);
        }
    }

    pub(super) fn get(&self, cell: u32) -> Option<&T> {
        self.cell(cell).filter(|cell| cell.as_free().is_none())
    }

    /// A cell, live or free, if its page is held.
    #[inline]
    pub(super) fn cell(&self, cell: u32) -> Option<&T> {
        let (number, idx) = Self::split(cell);
        Some(&self.cells.get(number as usize)?.as_deref()?[idx])
    }

    /// As [`Pages::cell`].
    #[inline]
    pub(super) fn cell_mut(&mut self, cell: u32) -> Option<&mut T> {
        let (number, idx) = Self::split(cell);
        Some(&mut self.cells.get_mut(number as usize)?.as_deref_mut()?[idx])
    }

    /// A live cell.
    #[inline]
    pub(super) fn at(&self, cell: u32) -> &T {
        let (number, idx) = Self::split(cell);
        let held = self.cells[number as usize].as_deref();
        &held.expect("a page that has a live cell is held")[idx]
    }

    /// A live cell.
    #[inline]
    pub(super) fn at_mut(&mut self, cell: u32) -> &mut T {
        let (number, idx) = Self::split(cell);
        &mut held_mut(&mut self.cells, number)[idx]
    }

    fn split(cell: u32) -> (u32, usize) {
        (cell / N as u32, cell as usize % N)
    }

    fn add_page(&mut self) {
        let number = if self.gone == NIL {
            self.pages.push(Page { free: NIL, n_live: 0, generation: 0, prev: NIL, next: NIL });
            self.cells.push(None);
            self.pages.len() as u32 - 1
        } else {
            let number = self.gone;
            self.gone = self.pages[number as usize].next;
            self.n_gone -= 1;
            number
        };
        let page = &mut self.pages[number as usize];
        let next = |idx: u32| if idx == N as u32 - 1 { NIL } else { idx + 1 };
        let cells: Box<[T]> =
            (0..N as u32).map(|idx| T::free(next(idx), page.generation)).collect();
        self.cells[number as usize] = cells.try_into().ok();
        page.free = 0;
        self.reopen(number);
    }

    /// The page has a free cell.
    fn reopen(&mut self, number: u32) {
        let head = std::mem::replace(&mut self.open, number);
        let page = &mut self.pages[number as usize];
        (page.prev, page.next) = (NIL, head);
        if head != NIL {
            self.pages[head as usize].prev = number;
        }
    }

    /// The page leaves the list of those that have a free cell.
    fn close(&mut self, number: u32) {
        let Page { prev, next, .. } = self.pages[number as usize];
        match prev {
            NIL => self.open = next,
            _ => self.pages[prev as usize].next = next,
        }
        if next != NIL {
            self.pages[next as usize].prev = prev;
        }
    }

    /// Nothing lives in the page: it is kept as the spare one, or goes.
    fn give_back(&mut self, number: u32) {
        if self.spare == NIL {
            self.spare = number;
            return;
        }
        self.close(number);
        self.cells[number as usize] = None;
        self.pages[number as usize].next = self.gone;
        self.gone = number;
        self.n_gone += 1;
    }
}

/// The cells of a page that is held.
#[inline]
fn held_mut<T, const N: usize>(cells: &mut [Option<Box<[T; N]>>], number: u32) -> &mut [T; N] {
    let held = cells[number as usize].as_deref_mut();
    held.expect("a page that has a live cell is held")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Cells of a page in these tests: few, so that pages come and go.
    const N: usize = 64;

    /// A kilobyte, so that a page holds few.
    #[repr(align(1024))]
    enum Fat {
        Free(u32, u32),
        Live(u32),
    }

    impl Cell for Fat {
        fn free(next: u32, generation: u32) -> Self {
            Fat::Free(next, generation)
        }
        fn as_free(&self) -> Option<(u32, u32)> {
            match *self {
                Fat::Free(next, generation) => Some((next, generation)),
                Fat::Live(_) => None,
            }
        }
    }

    proptest! {
        /// Cells behave like a map, never come back with a generation they had, and leave no page
        /// behind.
        #[test]
        fn cells_come_and_go(operations in prop::collection::vec(any::<(bool, u16)>(), 1..2000)) {
            let mut pages: Pages<Fat, N> = Pages::new();
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut seen = std::collections::BTreeSet::new();
            for (insert, pick) in operations {
                if insert {
                    let cell = pages.insert(Fat::Live);
                    let &Fat::Live(generation) = pages.at(cell) else { panic!("it lives") };
                    prop_assert!(seen.insert((cell, generation)), "a generation came again");
                    prop_assert!(model.insert(cell, generation).is_none());
                } else if !model.is_empty() {
                    let idx = usize::from(pick) % model.len();
                    let (&cell, &generation) = model.iter().nth(idx).expect("it has so many");
                    pages.remove(cell, generation);
                    model.remove(&cell);
                }
                prop_assert_eq!(pages.len() as usize, model.len());
                let live = (0..pages.n_cells()).filter(|&cell| pages.get(cell).is_some());
                prop_assert!(live.eq(model.keys().copied()));
            }
            for (cell, generation) in model {
                pages.remove(cell, generation);
            }
            let per_page = size_of::<Page>() + size_of::<Option<Box<[Fat; N]>>>();
            prop_assert!(pages.bytes() <= N * size_of::<Fat>() + pages.pages.len() * per_page);
        }
    }
}
