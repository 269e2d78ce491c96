use super::*;

const EIO: i32 = 5;

fn world() -> (SimVfs, Arc<dyn VfsFile>) {
    let vfs = SimVfs::new();
    vfs.create_dir_all(Path::new("/d")).unwrap();
    let file = vfs.open(Path::new("/d/f"), OpenMode::CreateNew).unwrap();
    (vfs, file)
}

fn content(vfs: &SimVfs) -> Option<Vec<u8>> {
    vfs.content(Path::new("/d/f"))
}

#[test]
fn synced_bytes_survive_every_crash_and_unsynced_ones_some() {
    let (vfs, file) = world();
    file.write_all_at(&[1; 600], 0).unwrap();
    file.sync_data().unwrap();
    vfs.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(&[2; 2000], 600).unwrap();
    let (mut lost, mut torn, mut kept) = (0, 0, 0);
    for seed in 0..200 {
        let after = content(&vfs.crash(seed)).unwrap();
        assert_eq!(after[..600], [1; 600], "seed {seed}");
        match after[600..].iter().filter(|&&byte| byte == 2).count() {
            0 => lost += 1,
            2000 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 0 && torn > 0 && kept > 0, "{lost} {torn} {kept}");
}

#[test]
fn an_unsynced_directory_entry_may_be_lost() {
    let (vfs, file) = world();
    file.sync_data().unwrap();
    let found = (0..100).filter(|&seed| content(&vfs.crash(seed)).is_some()).count();
    assert!(found > 0 && found < 100);
}

#[test]
fn after_a_failed_sync_a_second_one_succeeds_and_saves_nothing() {
    let (vfs, file) = world();
    vfs.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(b"lost", 0).unwrap();
    vfs.inject(Fault { op: Some(OpKind::Sync), nth: 1, effect: FaultEffect::Before, errno: EIO });
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    file.sync_data().unwrap();
    assert_eq!(content(&vfs).unwrap(), b"lost");
    assert_eq!(content(&vfs.crash(0)).unwrap(), b"");
}

#[test]
fn the_nth_operation_fails_and_a_short_write_leaves_its_half() {
    let (vfs, file) = world();
    vfs.inject(Fault { op: Some(OpKind::Write), nth: 2, effect: FaultEffect::Half, errno: EIO });
    file.write_all_at(b"aaaa", 0).unwrap();
    file.write_all_at(b"bbbb", 4).unwrap_err();
    file.write_all_at(b"cc", 6).unwrap();
    assert_eq!(content(&vfs).unwrap(), b"aaaabbcc");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (vfs, file) = world();
    vfs.set_capacity(Some(6));
    file.write_all_at(b"aaaa", 0).unwrap();
    assert_eq!(file.write_all_at(b"bbbb", 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&vfs).unwrap(), b"aaaabb");
    file.write_all_at(b"cccc", 0).unwrap();
}
