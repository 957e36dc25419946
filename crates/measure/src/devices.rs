//! Named devices: what their data sheets say, with the source of each figure.

use serde::Deserialize;

use crate::limits::Limits;

/// One device of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The name by which it is asked for.
    pub name: String,
    /// Main memory, in 10^9 bytes.
    pub ram_gb: f64,
    /// Memory bandwidth, in 10^9 bytes per second.
    pub bandwidth_gb_per_s: f64,
    /// f32 operations, 10^9 per second.
    pub f32_gflops: f64,
    /// Operations with 8-bit integers, 10^9 per second.
    pub int8_gops: f64,
    /// Where the figures come from, and what they leave out.
    pub source: String,
}

#[derive(Deserialize)]
struct Table {
    device: Vec<Device>,
}

impl Device {
    /// Every device, smallest first.
    ///
    /// # Panics
    /// Never: the table is part of the program, and a test reads it.
    pub fn all() -> Vec<Self> {
        let table: Table = toml::from_str(include_str!("devices.toml")).expect("the table of this program");
        table.device
    }

    /// The limits of its data sheet.
    pub fn limits(&self) -> Limits {
        Limits {
            bytes_per_s: 1e9 * self.bandwidth_gb_per_s,
            int8_per_s: 1e9 * self.int8_gops,
            f32_per_s: 1e9 * self.f32_gflops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_limits_and_a_source() {
        let devices = Device::all();
        assert_eq!(devices.len(), 5);
        for device in devices {
            assert!(device.ram_gb > 0.0 && device.bandwidth_gb_per_s > 0.0, "{device:?}");
            assert!(device.int8_gops >= device.f32_gflops && device.f32_gflops > 0.0, "{device:?}");
            assert!(device.source.len() > 40, "{device:?}");
        }
    }
}
