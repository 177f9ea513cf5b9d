//! The single operations of the stack, timed by criterion. `cargo bench -p barewire-bench --bench micro`.

use barewire_bench::micro::{OPERATIONS, repeat};
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Instant;

fn micro(criterion: &mut Criterion) {
    for operation in OPERATIONS {
        // Made only for those that a filter lets through.
        let mut run = None;
        criterion.bench_function(operation.name, |bencher| {
            let run = run.get_or_insert_with(|| operation.make());
            bencher.iter_custom(|n| {
                let began_at = Instant::now();
                repeat(run, n);
                began_at.elapsed()
            });
        });
    }
}

criterion_group!(benches, micro);
criterion_main!(benches);
