use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use proptest::prelude::*;
use weir_common::key_group::KeyGroupRange;
use weir_dataflow::testing::{MemoryState, schema};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, u8),
    Replace(usize, u8),
    Remove(usize),
    Freeze,
    Write,
    Spill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6, any::<u8>()).prop_map(|(key, row)| Step::Insert(key, row)),
        3 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, row)| Step::Replace(i.index(1 << 16), row)),
        3 => any::<prop::sample::Index>().prop_map(|i| Step::Remove(i.index(1 << 16))),
        1 => Just(Step::Freeze),
        2 => Just(Step::Write),
        1 => Just(Step::Spill),
    ]
}

/// Rows by key, in the order of their numbers.
type Model = BTreeMap<u8, Vec<u8>>;

fn load(store: &mut RowStore, state: &mut MemoryState) -> BTreeMap<u8, Vec<RowId>> {
    let keys: EncodedKeys = [&[0u8][..], &[1], &[2], &[3], &[4], &[5]]
        .into_iter()
        .collect();
    let hashes: Vec<u64> = keys.iter().map(hash_key).collect();
    let (mut slots, mut loaded) = (Vec::new(), Vec::new());
    store
        .resolve(&keys, &hashes, &mut slots, state, &mut loaded)
        .unwrap();
    let mut rows: BTreeMap<u8, Vec<RowId>> = BTreeMap::new();
    for row in loaded {
        rows.entry(store.key(store.slot_of(row))[0])
            .or_default()
            .push(row);
    }
    rows
}

fn in_state(state: &mut MemoryState, per_key: RowsPerKey) -> Model {
    let mut store = RowStore::new(per_key, 128);
    store.forget();
    let rows = load(&mut store, state);
    let bytes = |ids: Vec<RowId>| ids.iter().map(|id| store.bytes(*id)[0]).collect();
    rows.into_iter()
        .map(|(key, ids)| (key, bytes(ids)))
        .collect()
}

proptest! {
    /// What is frozen comes into the state as it was, whatever happens meanwhile, and nothing is lost by spilling.
    #[test]
    fn the_state_has_the_rows_of_the_last_freeze(one in any::<bool>(), steps in prop::collection::vec(step(), 0..120)) {
        let per_key = if one { RowsPerKey::One } else { RowsPerKey::Many };
        let mut state = MemoryState::new(KeyGroupRange::of_subtask(0, 128, 1));
        let mut store = RowStore::new(per_key, 128);
        let mut ids = load(&mut store, &mut state);
        let (mut model, mut frozen) = (Model::new(), Model::new());
        let mut writing = false;
        for step in steps {
            let flat: Vec<(u8, usize)> = model
                .iter()
                .flat_map(|(key, rows)| (0..rows.len()).map(|at| (*key, at)))
                .collect();
            let pick = |index: usize| flat.get(index % flat.len().max(1)).copied();
            match step {
                Step::Insert(key, row) if !one || !model.contains_key(&key) => {
                    let keys: EncodedKeys = [&[key][..]].into_iter().collect();
                    let mut slots = Vec::new();
                    store.resolve(&keys, &[hash_key(&[key])], &mut slots, &mut state, &mut Vec::new()).unwrap();
                    ids.entry(key).or_default().push(store.insert(slots[0], b"note", &[row]));
                    model.entry(key).or_default().push(row);
                }
                Step::Replace(index, row) => if let Some((key, at)) = pick(index) {
                    store.replace(ids[&key][at], b"", &[row]);
                    model.get_mut(&key).unwrap()[at] = row;
                },
                Step::Remove(index) => if let Some((key, at)) = pick(index) {
                    store.remove(ids.get_mut(&key).unwrap().remove(at));
                    model.get_mut(&key).unwrap().remove(at);
                    model.retain(|_, rows| !rows.is_empty());
                },
                Step::Freeze => {
                    while writing { writing = store.write_frozen(2, &mut state).unwrap(); }
                    store.freeze();
                    (frozen, writing) = (model.clone(), true);
                }
                Step::Write if writing => {
                    writing = store.write_frozen(2, &mut state).unwrap();
                    if !writing { prop_assert_eq!(&in_state(&mut state, per_key), &frozen); }
                }
                Step::Spill => {
                    store.spill(&mut state).unwrap();
                    writing = false;
                    prop_assert_eq!(&in_state(&mut state, per_key), &model);
                    ids = load(&mut store, &mut state);
                }
                _ => {}
            }
        }
        for (key, rows) in &model {
            let found: Vec<u8> = ids[key].iter().map(|id| store.bytes(*id)[0]).collect();
            prop_assert_eq!(&found, rows);
        }
    }
}

#[test]
fn rows_of_any_columns_survive() {
    let schema = schema(&[
        ("a", DataType::Utf8),
        ("k", DataType::Int64),
        ("b", DataType::Boolean),
    ]);
    let rows = weir_dataflow::testing::batch(&schema, "x 1 true\nnull 2 null").unwrap();
    for key in [vec![1], vec![], vec![2, 0, 1]] {
        let codec = RowCodec::new(&schema, &key).unwrap();
        let (keys, mut rest) = (
            codec.key().encode_batch(rows.data()).unwrap(),
            EncodedKeys::default(),
        );
        codec.encode(rows.data(), &mut rest).unwrap();
        let (keys, rest): (Vec<_>, Vec<_>) = (keys.iter().collect(), rest.iter().collect());
        let columns = codec.decode(&keys, &rest).unwrap();
        assert_eq!(&rows_of(&schema, columns, 2).unwrap(), rows.data());
    }
}
