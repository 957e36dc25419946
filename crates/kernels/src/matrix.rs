//! Views of f32 matrices for `gemm`, and the precision it multiplies in.

/// How `gemm` treats its inputs; sums are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Inputs as they are.
    F32,
    /// Inputs rounded to bf16, to nearest with ties to even; products summed in f32.
    Bf16,
    /// Inputs rounded to 13-bit integers (sign included) that share a scale with the 128 values along K they stand among;
    /// products summed exactly over those 128, then in f32. Between bf16 and f32 in error; twice as fast as f32 where a
    /// CPU has VNNI.
    Int16,
}

/// A `[rows, cols]` view of f32 values: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a> {
    /// The values, from element `(0, 0)` on.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of two rows in elements.
    pub row_stride: usize,
    /// Distance of two columns in elements.
    pub col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// A row-major `[rows, cols]` matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transposed view, `[cols, rows]`; nothing is moved.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Checks that every element lies inside `data`.
    ///
    /// # Panics
    /// If one does not.
    pub(crate) fn check(&self, what: &str) {
        if self.rows > 0 && self.cols > 0 {
            let last = (self.rows - 1)
                .checked_mul(self.row_stride)
                .zip((self.cols - 1).checked_mul(self.col_stride))
                .and_then(|(row, col)| row.checked_add(col));
            let inside = last.is_some_and(|last| last < self.data.len());
            let (shape, strides) = ((self.rows, self.cols), (self.row_stride, self.col_stride));
            assert!(
                inside,
                "{what} {shape:?} with strides {strides:?} does not fit {} elements",
                self.data.len()
            );
        }
    }
}

/// A mutable `[rows, cols]` view of f32 values: element `(i, j)` is `data[i * row_stride + j]`.
#[derive(Debug)]
pub struct MatMut<'a> {
    /// The values, from element `(0, 0)` on.
    pub data: &'a mut [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of two rows in elements, at least `cols`.
    pub row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A row-major `[rows, cols]` matrix.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols }
    }

    /// The same view for a while. Of one row the distance to the next is its length, for it means nothing.
    pub(crate) fn part(&mut self) -> MatMut<'_> {
        let row_stride = if self.rows == 1 { self.cols } else { self.row_stride };
        MatMut { data: self.data, rows: self.rows, cols: self.cols, row_stride }
    }

    /// Checks that every element lies inside `data` and that rows do not overlap.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check(&self, what: &str) {
        let (rows, cols, stride, len) = (self.rows, self.cols, self.row_stride, self.data.len());
        if rows > 0 && cols > 0 {
            let end = (rows - 1).checked_mul(stride).and_then(|row| row.checked_add(cols));
            let inside = end.is_some_and(|end| end <= len) && (rows == 1 || stride >= cols);
            assert!(inside, "{what} [{rows}, {cols}] with row stride {stride} does not fit {len} elements");
        }
    }
}
