package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

// nodeServer mounts volumes on its node for the kubelet.
type nodeServer struct {
	csi.UnimplementedNodeServer
	node    string
	volumes store
	mounter *mount.SafeFormatAndMount
}

func (n *nodeServer) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.node, AccessibleTopology: topology(n.node)}, nil
}

func (*nodeServer) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	var list []*csi.NodeServiceCapability
	for _, can := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		list = append(list, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: can}},
		})
	}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: list}, nil
}

// NodeStageVolume mounts a volume once for its node. A new one is formatted first.
func (n *nodeServer) NodeStageVolume(_ context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	name, target := request.GetVolumeId(), request.GetStagingTargetPath()
	if name == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume, or where to mount it, is not named")
	}
	if err := checkCapabilities(capabilities(request.GetVolumeCapability())); err != nil {
		return nil, err
	}
	if found, err := n.volumes.has(name); err != nil || !found {
		return nil, missing(name, err)
	}
	mounted, err := n.mounted(target)
	if err != nil || mounted {
		return &csi.NodeStageVolumeResponse{}, err
	}
	options := append([]string{"loop"}, request.GetVolumeCapability().GetMount().GetMountFlags()...)
	// Discarding blocks that were never written would release the file's blocks.
	format := []string{"-q", "-E", "nodiscard"}
	if err := n.mounter.FormatAndMountSensitiveWithFormatOptions(n.volumes.file(name), target, fileSystem, options, nil, format); err != nil {
		return nil, status.Errorf(codes.Internal, "mount the volume %s: %v", name, err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (n *nodeServer) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := n.unmount(request.GetVolumeId(), request.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume mounts a volume, which has been mounted for the node, into a pod.
func (n *nodeServer) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	name, staged, target := request.GetVolumeId(), request.GetStagingTargetPath(), request.GetTargetPath()
	if name == "" || staged == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume, where it is mounted, or where it should be, is not named")
	}
	if err := checkCapabilities(capabilities(request.GetVolumeCapability())); err != nil {
		return nil, err
	}
	if found, err := n.volumes.has(name); err != nil || !found {
		return nil, missing(name, err)
	}
	// The node's own directory must not be used in place of a volume that is not mounted.
	if is, err := n.mounter.IsMountPoint(staged); err != nil || !is {
		return nil, status.Errorf(codes.FailedPrecondition, "the volume %s is not mounted at %s: %v", name, staged, err)
	}
	if err := n.single(request); err != nil {
		return nil, err
	}
	mounted, err := n.mounted(target)
	if err != nil || mounted {
		return &csi.NodePublishVolumeResponse{}, err
	}
	options := []string{"bind"}
	if request.GetReadonly() {
		options = append(options, "ro")
	}
	if err := n.mounter.Mount(staged, target, "", options); err != nil {
		return nil, status.Errorf(codes.Internal, "mount the volume %s into the pod: %v", name, err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// single refuses a second pod if the volume is for a single pod (ReadWriteOncePod).
func (n *nodeServer) single(request *csi.NodePublishVolumeRequest) error {
	if request.GetVolumeCapability().GetAccessMode().GetMode() != csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		return nil
	}
	others, err := n.mounter.GetMountRefs(request.GetStagingTargetPath())
	if err != nil {
		return status.Errorf(codes.Internal, "look where the volume %s is mounted: %v", request.GetVolumeId(), err)
	}
	others = slices.DeleteFunc(others, func(at string) bool { return at == filepath.Clean(request.GetTargetPath()) })
	if len(others) > 0 {
		return status.Errorf(codes.FailedPrecondition, "the volume %s is for a single pod, and is mounted at %q already", request.GetVolumeId(), others)
	}
	return nil
}

func (n *nodeServer) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := n.unmount(request.GetVolumeId(), request.GetTargetPath()); err != nil {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeGetVolumeStats returns how full a volume is, in bytes and files.
func (n *nodeServer) NodeGetVolumeStats(_ context.Context, request *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	name, at := request.GetVolumeId(), request.GetVolumePath()
	if name == "" || at == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume, or where it is mounted, is not named")
	}
	is, err := n.mounter.IsMountPoint(at)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !is {
		return nil, status.Errorf(codes.NotFound, "the volume %s is not mounted at %s", name, at)
	}
	var st unix.Statfs_t
	if err == nil {
		err = unix.Statfs(at, &st)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "look at the volume %s: %v", name, err)
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{
			Unit:  csi.VolumeUsage_BYTES,
			Total: int64(st.Blocks) * st.Bsize, Available: int64(st.Bavail) * st.Bsize, Used: int64(st.Blocks-st.Bfree) * st.Bsize,
		},
		{Unit: csi.VolumeUsage_INODES, Total: int64(st.Files), Available: int64(st.Ffree), Used: int64(st.Files - st.Ffree)},
	}}, nil
}

// mounted returns whether something is mounted at target, and creates target if it is missing.
func (n *nodeServer) mounted(target string) (bool, error) {
	if err := os.MkdirAll(target, 0o750); err != nil {
		return false, status.Errorf(codes.Internal, "make the directory to mount at: %v", err)
	}
	is, err := n.mounter.IsMountPoint(target)
	if err != nil {
		return false, status.Errorf(codes.Internal, "look at %s: %v", target, err)
	}
	return is, nil
}

// unmount unmounts what is mounted at target, and removes the directory. It can be repeated.
func (n *nodeServer) unmount(name, target string) error {
	if name == "" || target == "" {
		return status.Error(codes.InvalidArgument, "the volume, or where it is mounted, is not named")
	}
	if err := mount.CleanupMountPoint(target, n.mounter, true); err != nil {
		return status.Errorf(codes.Internal, "unmount the volume %s: %v", name, err)
	}
	return nil
}

// capabilities returns a list with the capability, or an empty one for nil.
func capabilities(one *csi.VolumeCapability) []*csi.VolumeCapability {
	if one == nil {
		return nil
	}
	return []*csi.VolumeCapability{one}
}
