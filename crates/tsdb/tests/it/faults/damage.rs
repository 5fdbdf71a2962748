//! Flipped bits and cut files, of every kind of file.
