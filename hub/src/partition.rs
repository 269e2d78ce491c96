//! A device's partition: a fixed hash of its id, so that all it sends stays in one order.

use ring::digest;
use unicity_identity::DeviceId;

/// The partition of a device among `partitions`, which is at least 1 and fixed when a hub is made.
#[must_use]
pub fn partition_of(device_id: &DeviceId, partitions: u32) -> u32 {
    let hash = digest::digest(&digest::SHA256, device_id.as_str().as_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&hash.as_ref()[..4]);
    u32::from_be_bytes(first) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_fixed_and_in_range() {
        let device: DeviceId = "Dev#1".parse().unwrap();
        for partitions in [0, 1, 2, 4, 32] {
            let partition = partition_of(&device, partitions);
            assert!(partition < partitions.max(1));
            assert_eq!(partition, partition_of(&device, partitions));
        }
    }
}
