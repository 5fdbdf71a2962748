//! object storage and the catalog of blocks in it: configure, list, cache, mark, ship
