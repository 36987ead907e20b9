//! What all databases of a process share: one block cache, one budget for memtables (a part of the cache's), one set of
//! background threads; and how a database is tuned.
//!
//! Reads are bulk point lookups and short scans; writes come in bulk at barriers. There may be dozens of databases with next to
//! nothing in them, so nothing is allocated ahead.

use std::sync::atomic::{AtomicUsize, Ordering};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, Env,
    LogLevel, LruCacheOptions, Options, UniversalCompactOptions, WriteBufferManager,
};

use crate::{Result, StateError};

const MIB: usize = 1 << 20;
/// Compactions and flushes of the whole process at once.
const COMPACTION_THREADS: i32 = 2;
const FLUSH_THREADS: i32 = 1;
/// So many sorted runs, each of which a read may have to look into, lead to a compaction. The more, the fewer times an entry is merged, and
/// uploaded, before it is in the oldest run: where 1 % of the keys change between checkpoints, these upload 3.7 % of the state on average, with 6
/// runs it was 7.5 %. A look-up passes by nearly all runs by their filters.
const SORTED_RUNS: i32 = 10;
/// A piece of an index or a filter.
const METADATA_BLOCK_BYTES: usize = 8 << 10;
/// 2ⁿ parts of the cache, each with a lock: a few threads read, and a large block should find room in its part.
const CACHE_SHARD_BITS: i32 = 3;
/// Least budget with which RocksDB still works well.
const LEAST_BYTES: usize = 8 * MIB;

/// The memory of keyed state in this process; one for all [`crate::RocksState`]s.
pub struct StateMemory {
    cache: Cache,
    memtables: WriteBufferManager,
    env: Env,
    write_buffer_bytes: usize,
    /// What all writers have before them.
    queued: AtomicUsize,
    queue_bytes: usize,
}

impl std::fmt::Debug for StateMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = self.cache.get_usage();
        write!(f, "StateMemory({used} bytes used)")
    }
}

impl StateMemory {
    /// `bytes` is for blocks, indexes, filters and memtables; less than 8 MiB counts as 8 MiB. `queue_bytes` is for changes on
    /// their way there.
    pub fn new(bytes: u64, queue_bytes: u64) -> Result<Self> {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .max(LEAST_BYTES);
        let mut shape = LruCacheOptions::default();
        shape.set_capacity(bytes);
        shape.set_num_shard_bits(CACHE_SHARD_BITS);
        let cache = Cache::new_lru_cache_opts(&shape);
        let memtables = WriteBufferManager::new_write_buffer_manager_with_cache(
            bytes / 2,
            false,
            cache.clone(),
        );
        let mut env = Env::new().map_err(|error| StateError::Local {
            context: "cannot start RocksDB".to_owned(),
            message: error.to_string(),
        })?;
        env.set_low_priority_background_threads(COMPACTION_THREADS);
        env.set_high_priority_background_threads(FLUSH_THREADS);
        Ok(Self {
            cache,
            memtables,
            env,
            write_buffer_bytes: (bytes / 8).clamp(MIB, 64 * MIB),
            queued: AtomicUsize::new(0),
            queue_bytes: usize::try_from(queue_bytes).unwrap_or(usize::MAX),
        })
    }

    /// Bytes of the budget that are in use.
    pub fn used_bytes(&self) -> u64 {
        self.cache.get_usage() as u64
    }

    /// Bytes that wait to be written into any database.
    pub fn queued_bytes(&self) -> u64 {
        self.queued.load(Ordering::Relaxed) as u64
    }

    /// Whether so many bytes more may wait.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.queued.load(Ordering::Relaxed).saturating_add(bytes) <= self.queue_bytes
    }

    pub(crate) fn queue(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn written(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_env(&self.env);
        options.set_block_based_table_factory(&self.table_options());
        self.tune_writes(&mut options);
        // The log of RocksDB is of use for errors only, and one a database.
        options.set_log_level(LogLevel::Error);
        options.set_keep_log_file_num(1);
        options.set_max_log_file_size(MIB);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        // The manifest is uploaded with each checkpoint; it is written anew when it has grown to this.
        options.set_max_manifest_file_size(256 << 10);
        options.set_manifest_preallocation_size(16 << 10);
        options.set_skip_stats_update_on_db_open(true);
        options
    }

    /// What is compacted is uploaded again. By levels, the few changes of each checkpoint would be merged into all of a level's files, since keys
    /// are spread evenly; so runs of files are only merged with runs of about their own size, and with all when they have become as
    /// much as the rest.
    fn tune_compaction(options: &mut Options) {
        let mut universal = UniversalCompactOptions::default();
        universal.set_size_ratio(20);
        universal.set_max_size_amplification_percent(100);
        options.set_compaction_style(DBCompactionStyle::Universal);
        options.set_universal_compaction_options(&universal);
        options.set_level_zero_file_num_compaction_trigger(SORTED_RUNS);
    }

    fn table_options(&self) -> BlockBasedOptions {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(8 << 10);
        table.set_format_version(6);
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        table.set_optimize_filters_for_memory(true);
        // A run of files may be as large as the state, and its filter in one piece larger than a shard of the cache: then every look-up
        // reads it from the disk. In pieces, those in use stay.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(METADATA_BLOCK_BYTES);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_top_level_index_and_filter(true);
        table
    }

    fn tune_writes(&self, options: &mut Options) {
        options.set_write_buffer_manager(&self.memtables);
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(3);
        options.set_arena_block_size(64 << 10);
        // One thread writes.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_max_background_jobs(COMPACTION_THREADS + FLUSH_THREADS);
        options.set_level_zero_slowdown_writes_trigger(24);
        options.set_level_zero_stop_writes_trigger(40);
        options.set_target_file_size_base(32 << 20);
        Self::tune_compaction(options);
        options.set_max_open_files(512);
    }
}
