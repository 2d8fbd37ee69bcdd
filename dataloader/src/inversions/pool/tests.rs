use half::f16;

use super::*;
use crate::inversions::columns::{inversions_batch, references_batch, Inverted, Reference};
use crate::inversions::recording::{Recorded, Recording};

const LATENT: Latent = Latent { channels: 2, height: 3, width: 3, scaling_factor: 0.18215 };
const WIDTH: usize = 18;

fn recording() -> Recording {
    Recording { latent: LATENT, steps: vec![[0.9, 0.3], [0.8, 0.4], [1.1, -0.2]] }
}

fn pool(folder: &Path) -> Pool {
    Pool::open(folder, Layout { rows_per_file: 8, rows_per_group: 3, ..Layout::inversions(&LATENT, 4) })
        .expect("opened")
}

fn inverted(n: usize) -> Inverted {
    let halves = |count: usize, salt: usize| {
        (0..count).map(|k| f16::from_f32(((n * 31 + k * 7 + salt) % 97) as f32 / 17.0 - 2.5)).collect()
    };
    Inverted {
        image_id: format!("image {n:04}"),
        split: "train".into(),
        latent: halves(WIDTH, 1),
        outputs: halves(WIDTH * 4, 2),
    }
}

fn publish(pool: &Pool, rows: std::ops::Range<usize>) {
    let rows: Vec<Inverted> = rows.map(inverted).collect();
    pool.publish(&inversions_batch(pool.schema(), &rows).expect("a batch")).expect("published");
}

fn key(n: usize) -> Key {
    Key { image_id: format!("image {n:04}"), timestep: None }
}

fn read(pool: &Pool, n: usize, last: usize) -> Result<Recorded> {
    pool.read(&key(n), |file, row| recording().read(file, row, last))
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(SUFFIX)).collect()
}

#[test]
fn latents_follow_from_the_first_and_the_outputs() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = pool(folder.path());
    publish(&pool, 0..5);
    let found = recording().at_timesteps(&[3, 1], |i, last| read(&pool, [4, 2][i], last)).expect("readable");
    for (i, (n, k)) in [(4, 3), (2, 1)].into_iter().enumerate() {
        let row = inverted(n);
        let mut z: Vec<f32> = row.latent.iter().map(|v| v.to_f32() * LATENT.scaling_factor as f32).collect();
        let output = |k: usize| row.outputs[k * WIDTH..(k + 1) * WIDTH].iter().map(|v| v.to_f32()).collect::<Vec<_>>();
        let mut below = vec![];
        for (at, [a, b]) in recording().steps.into_iter().enumerate().take(k) {
            let up = z.iter().zip(output(at)).map(|(z, output)| z * a + output * b).collect();
            below = std::mem::replace(&mut z, up);
        }
        let part = |numbers: &[f32]| numbers[i * WIDTH..(i + 1) * WIDTH].to_vec();
        assert_eq!((part(&found.latent), part(&found.below), part(&found.output)), (z.clone(), below, output(k)));
        let whole = recording().whole(&read(&pool, n, 3).expect("readable"));
        assert_eq!(whole.latents[k * WIDTH..(k + 1) * WIDTH], z);
        assert_eq!(whole.outputs[k * WIDTH..(k + 1) * WIDTH], output(k));
    }
}

#[test]
fn small_files_become_large_ones_under_the_eyes_of_a_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let (writer, reader) = (pool(folder.path()), pool(folder.path()));
    publish(&writer, 0..2);
    publish(&writer, 2..4);
    reader.refresh().expect("readable");
    assert!(reader.has(&key(3)) && !reader.has(&key(4)));
    let before = read(&reader, 0, 3).expect("readable");
    publish(&writer, 4..7);
    assert_eq!(files(folder.path()).len(), 3);
    publish(&writer, 7..9);
    assert_eq!(files(folder.path()).len(), 1, "9 rows fill a file of 8, which is made of all four");
    for n in 0..9 {
        assert_eq!(read(&reader, n, 3).expect("readable"), read(&writer, n, 3).expect("readable"));
    }
    assert_eq!(read(&reader, 0, 3).expect("readable"), before);
    // What is left over is merged on demand; rows that two runs have made are in one file once.
    publish(&writer, 20..22);
    publish(&reader, 21..23);
    for group in writer.mergeable().expect("readable") {
        writer.merge(&group).expect("merged");
    }
    assert_eq!(files(folder.path()).len(), 2);
    let fresh = pool(folder.path());
    assert!((0..9).chain(20..23).all(|n| fresh.has(&key(n))), "every row is there");
    assert_eq!(fresh.index.read().expect("whole").files.values().map(|file| file.rows).sum::<u64>(), 12);
    assert!(fresh.mergeable().expect("readable").is_empty());
}

/// A run that has looked before another's merging computes the same rows once more. Which of the files comes first, and so
/// whether their merging is the file that is there already, depends on the rows' keys.
#[test]
fn rows_that_come_again_after_a_merging_take_nothing_away() {
    for start in (0..80).step_by(4) {
        let folder = tempfile::tempdir().expect("a folder");
        for writer in [pool(folder.path()), pool(folder.path())] {
            publish(&writer, start..start + 2);
            publish(&writer, start + 2..start + 4);
            for group in writer.mergeable().expect("readable") {
                writer.merge(&group).expect("merged");
            }
            let fresh = pool(folder.path());
            assert!((start..start + 4).all(|n| fresh.has(&key(n))), "{start}: {:?}", files(folder.path()));
        }
    }
}

#[test]
fn many_writers_on_one_folder_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let path = folder.path();
            scope.spawn(move || {
                let pool = pool(path);
                // Neighbours make some rows twice.
                (0..10).for_each(|block| publish(&pool, worker * 20 + block * 3..worker * 20 + block * 3 + 3));
                for group in pool.mergeable().expect("readable") {
                    pool.merge(&group).expect("merged");
                }
            });
        }
    });
    let pool = pool(folder.path());
    for n in 0..90 {
        let whole = recording().whole(&read(&pool, n, 3).expect("readable"));
        assert_eq!(whole.outputs.len(), 4 * WIDTH);
        assert_eq!(whole.outputs[0], inverted(n).outputs[0].to_f32());
    }
    let parts = fs::read_dir(folder.path()).expect("a folder").flatten();
    assert!(parts.filter(|e| e.file_name().to_string_lossy().ends_with(PART)).count() == 0, "nothing is left over");
}

#[test]
fn what_is_cut_off_is_forgotten_and_a_flipped_bit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    publish(&pool(folder.path()), 0..3);
    let path = folder.path().join(&files(folder.path())[0]);
    let whole = fs::read(&path).expect("a file");
    let at = whole
        .windows(WIDTH * 2)
        .position(|bytes| bytes == bytemuck::cast_slice::<_, u8>(&inverted(1).outputs[WIDTH..2 * WIDTH]));
    let mut flipped = whole.clone();
    flipped[at.expect("the numbers lie there as they are") + 5] ^= 4;
    fs::write(&path, flipped).expect("written");
    let damaged = pool(folder.path());
    let error = read(&damaged, 1, 2).expect_err("damaged").to_string();
    assert!(error.contains(&path.display().to_string()) && error.contains("delete the file"), "{error}");
    read(&damaged, 1, 0).expect("what is not read is not checked");
    read(&damaged, 2, 3).expect("the other rows are sound");
    fs::write(&path, &whole[..whole.len() - 9]).expect("written");
    assert!(!pool(folder.path()).has(&key(1)) && !path.exists());
}

#[test]
fn numbers_that_half_precision_cannot_hold_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut row = inverted(0);
    row.outputs[WIDTH + 1] = f16::INFINITY;
    let error = inversions_batch(pool(folder.path()).schema(), &[row]).expect_err("not finite").to_string();
    assert!(error.contains("image 0000") && error.contains("timestep index 1"), "{error}");
}

#[test]
fn embeddings_are_found_by_image_and_timestep() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = Pool::open(folder.path(), Layout::references(3)).expect("opened");
    let row = |timestep, embedding: [f32; 3]| Reference { image_id: "a".into(), timestep, embedding: embedding.into() };
    let rows = [row(10, [1.0, -2.0, 3.5]), row(20, [4.0, 5.0, 6.0])];
    pool.publish(&references_batch(pool.schema(), &rows).expect("a batch")).expect("published");
    let key = |t| Key { image_id: "a".into(), timestep: Some(t) };
    let read = pool.read(&key(20), |file, row| {
        let (group, row) = file.locate(row)?;
        let mut found = [0f32; 3];
        file.start_of("embedding", group, row, &mut found)?;
        Ok(Ok(found))
    });
    assert_eq!(read.expect("readable"), [4.0, 5.0, 6.0]);
    assert!(pool.has(&key(10)) && !pool.has(&key(30)));
    assert!(references_batch(pool.schema(), &[row(1, [f32::NAN; 3])]).is_err());
}

/// 4×64×64 latents over 40 timesteps: Stable Diffusion 1.5 at 512 px.
#[test]
fn a_source_of_stable_diffusion_takes_less_than_1_4_megabytes() {
    let latent = Latent { channels: 4, height: 64, width: 64, scaling_factor: 0.18215 };
    let width = latent.len();
    let folder = tempfile::tempdir().expect("a folder");
    let pool = Pool::open(folder.path(), Layout::inversions(&latent, 40)).expect("opened");
    let numbers = |count, n| (0..count).map(|k| f16::from_f32((k * 7 + n) as f32 % 3.7)).collect::<Vec<_>>();
    let row = |n| Inverted {
        image_id: format!("{n:064}"),
        split: "train".into(),
        latent: numbers(width, n),
        outputs: numbers(40 * width, n),
    };
    for block in 0..2 {
        let rows: Vec<Inverted> = (block * 4..block * 4 + 4).map(row).collect();
        pool.publish(&inversions_batch(pool.schema(), &rows).expect("a batch")).expect("published");
    }
    for group in pool.mergeable().expect("readable") {
        pool.merge(&group).expect("merged");
    }
    let names = files(folder.path());
    let bytes = fs::metadata(folder.path().join(&names[0])).expect("a file").len();
    assert!(names.len() == 1 && bytes / 8 < 1_400_000, "{names:?}: {} bytes a source", bytes / 8);
}
