//! Which file systems are a network's. Whoever asks the kernel brings the number.

/// The network file system that a magic number of `statfs(2)` (`linux/magic.h`) stands for; `None` for a local one or an
/// unknown number. Locks and flushes on it can not be relied on, and others may read what is written there.
pub fn network_kind(magic: u64) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB/CIFS"),
        0x6573_5546 => Some("FUSE"),
        0x0102_1997 => Some("9P"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        0x00c3_6400 => Some("Ceph"),
        0x0116_1970 => Some("GFS2"),
        0x7461_636f => Some("OCFS2"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x4750_4653 => Some("GPFS"),
        0x1983_0326 => Some("BeeGFS"),
        0xaad7_aaea => Some("PanFS"),
        0x786f_4256 => Some("VirtualBox shared-folder"),
        _ => None,
    }
}
