package node

import (
	"context"
	"net/http"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/store/mend"
	"github.com/homing-im/homing/replicator"
)

// RepairRequest asks for one partition of a replica to be compared with its
// origin, and mended unless Try is set.
type RepairRequest struct {
	Origin    string `json:"origin"`
	Partition uint16 `json:"partition"`
	Try       bool   `json:"try"`
}

// ReplicateRequest asks for nothing but to be done.
type ReplicateRequest struct{}

// repairing serves what an operator does to the copying between regions: each
// request is signed with an operator's key.
func (n *Node) repairing(r *replicator.Replicator) {
	v := peer.NewVerifier(peer.Options{View: n.world.View})
	handle := func(path string, h http.Handler) {
		n.admin.mux.Handle("POST "+path, v.Require(func(i peer.Identity) bool { return i.Kind == peer.KindOperator }, http.MaxBytesHandler(h, operateLimit)))
	}
	handle("/operate/replicate", operatorCall(func(context.Context, *ReplicateRequest) (replicator.Status, error) { return r.Status(), nil }))
	handle("/operate/replicate/rejected", operatorCall(func(context.Context, *ReplicateRequest) ([]replicator.Rejected, error) {
		return r.Replay().Rejected(), nil
	}))
	for path, do := range map[string]func(){
		"/operate/replicate/pause": r.Replay().Pause, "/operate/replicate/resume": r.Replay().Resume,
	} {
		handle(path, operatorCall(func(context.Context, *ReplicateRequest) (struct{}, error) {
			n.log.Info("an operator holds or releases the replay", "request", path)
			do()
			return struct{}{}, nil
		}))
	}
	handle("/operate/replicate/repair", operatorCall(func(ctx context.Context, q *RepairRequest) (mend.Report, error) {
		var report mend.Report
		err := r.Replay().Repair(ctx, region.ID(q.Origin), []region.Partition{region.Partition(q.Partition)}, q.Try, func(m mend.Report) { report = m })
		if err == nil && !q.Try {
			n.log.Info("an operator had a replica repaired", "origin", q.Origin, "partition", q.Partition, "owners", report.Owners, "position", report.Position)
		}
		return report, err
	}))
}
