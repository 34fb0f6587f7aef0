package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"
)

// machine is the answer of sys/host-info, in the form that Vault's has.
type machine struct {
	Timestamp time.Time              `json:"timestamp"`
	CPU       []cpu.InfoStat         `json:"cpu"`
	CPUTimes  []cpu.TimesStat        `json:"cpu_times"`
	Disk      []*disk.UsageStat      `json:"disk"`
	Host      *host.InfoStat         `json:"host"`
	Memory    *mem.VirtualMemoryStat `json:"memory"`
}

// hostInfo describes the machine. What a system does not tell is left out: a container hides its
// disks, for instance.
func hostInfo(ctx context.Context) ([]byte, error) {
	m := machine{Timestamp: time.Now().UTC()}
	var errs [5]error
	m.CPU, errs[0] = cpu.InfoWithContext(ctx)
	m.CPUTimes, errs[1] = cpu.TimesWithContext(ctx, true)
	m.Host, errs[2] = host.InfoWithContext(ctx)
	m.Memory, errs[3] = mem.VirtualMemoryWithContext(ctx)
	var partitions []disk.PartitionStat
	partitions, errs[4] = disk.PartitionsWithContext(ctx, false)
	for _, p := range partitions {
		if u, err := disk.UsageWithContext(ctx, p.Mountpoint); err == nil {
			m.Disk = append(m.Disk, u)
		}
	}
	for _, err := range errs {
		if err == nil {
			b, err := json.Marshal(m)
			if err != nil {
				return nil, fmt.Errorf("encoding the host information: %w", err)
			}
			return b, nil
		}
	}
	return nil, fmt.Errorf("asking the system: %w", errs[0]) // nothing at all could be found out
}
