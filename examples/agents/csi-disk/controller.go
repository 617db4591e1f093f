package main

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fileSystem is the file system of volumes.
const fileSystem = "ext4"

// controller makes and deletes the volumes of its node.
type controller struct {
	csi.UnimplementedControllerServer
	node    string
	volumes store
}

func (*controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var list []*csi.ControllerServiceCapability
	for _, can := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER, // so that claims can be for a single pod
	} {
		list = append(list, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: can}},
		})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: list}, nil
}

func (c *controller) CreateVolume(_ context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	name := request.GetName()
	if !validName(name) {
		return nil, status.Errorf(codes.InvalidArgument, "a volume cannot be called %q: letters, digits and - _ . can be had, %d at most", name, maxName)
	}
	if err := checkCapabilities(request.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	if request.GetVolumeContentSource() != nil {
		return nil, status.Error(codes.InvalidArgument, "copies of volumes and snapshots cannot be had: leave out dataSource")
	}
	if !c.reachable(request.GetAccessibilityRequirements()) {
		return nil, status.Errorf(codes.ResourceExhausted, "the volume is wanted on another node than %s", c.node)
	}
	least, limit := request.GetCapacityRange().GetRequiredBytes(), request.GetCapacityRange().GetLimitBytes()
	size, err := sizeFor(least, limit)
	if err != nil {
		return nil, err
	}
	size, err = c.volumes.create(name, least, size, limit)
	switch {
	case errors.Is(err, errOtherSize):
		return nil, status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, unix.ENOSPC):
		return nil, status.Errorf(codes.ResourceExhausted, "node %s has no room: %v", c.node, err)
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: name, CapacityBytes: size, AccessibleTopology: []*csi.Topology{topology(c.node)},
	}}, nil
}

// DeleteVolume deletes a volume. It succeeds if the volume is already gone.
func (c *controller) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	name := request.GetVolumeId()
	if name == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume to delete is not named")
	}
	if validName(name) {
		if err := c.volumes.remove(name); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// GetCapacity returns how much room this node has.
func (c *controller) GetCapacity(_ context.Context, request *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	if where := request.GetAccessibleTopology(); where != nil && where.GetSegments()[topologyKey] != c.node {
		return &csi.GetCapacityResponse{}, nil
	}
	free, err := c.volumes.free()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.GetCapacityResponse{AvailableCapacity: free}, nil
}

func (c *controller) ValidateVolumeCapabilities(_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if request.GetVolumeId() == "" || len(request.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the volume, or what it should be able to, is not named")
	}
	if found, err := c.volumes.has(request.GetVolumeId()); err != nil || !found {
		return nil, missing(request.GetVolumeId(), err)
	}
	if err := checkCapabilities(request.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: request.GetVolumeCapabilities()},
	}, nil
}

// reachable reports whether a volume on this node meets the topology requirement.
func (c *controller) reachable(wanted *csi.TopologyRequirement) bool {
	if len(wanted.GetRequisite()) == 0 {
		return true
	}
	for _, t := range wanted.GetRequisite() {
		if t.GetSegments()[topologyKey] == c.node {
			return true
		}
	}
	return false
}

func topology(node string) *csi.Topology {
	return &csi.Topology{Segments: map[string]string{topologyKey: node}}
}

// sizeFor returns how large a volume becomes, in bytes, when at least least are asked for and, unless it is 0, at most
// limit.
func sizeFor(least, limit int64) (int64, error) {
	if least < 0 || limit < 0 || limit > 0 && least > limit {
		return 0, status.Errorf(codes.OutOfRange, "a volume cannot have at least %d and at most %d bytes", least, limit)
	}
	size := least
	if size == 0 {
		size = defaultSize
	}
	size = max((size+sizeUnit-1)/sizeUnit*sizeUnit, minSize)
	if limit > 0 && size > limit {
		if size = limit / sizeUnit * sizeUnit; size < max(least, minSize) {
			return 0, status.Errorf(codes.OutOfRange, "a volume of at most %d bytes cannot be had: sizes are MiB, %d at least", limit, minSize/sizeUnit)
		}
	}
	return size, nil
}

// checkCapabilities refuses what this driver does not support: block devices, other file systems, and volumes that
// several nodes share.
func checkCapabilities(wanted []*csi.VolumeCapability) error {
	if len(wanted) == 0 {
		return status.Error(codes.InvalidArgument, "it is not said what the volume should be able to")
	}
	for _, w := range wanted {
		if w.GetMount() == nil {
			return status.Error(codes.InvalidArgument, "a volume has a file system: volumeMode must be Filesystem")
		}
		if fs := w.GetMount().GetFsType(); fs != "" && fs != fileSystem {
			return status.Errorf(codes.InvalidArgument, "the file system of a volume is %s, not %s", fileSystem, fs)
		}
		switch w.GetAccessMode().GetMode() {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		default:
			return status.Error(codes.InvalidArgument, "a volume is on one node: its access modes are ReadWriteOnce and ReadWriteOncePod")
		}
	}
	return nil
}

// missing returns the answer when a volume does not exist, or when that cannot be determined.
func missing(name string, err error) error {
	if err != nil {
		return status.Errorf(codes.Internal, "look for the volume %s: %v", name, err)
	}
	return status.Errorf(codes.NotFound, "this node has no volume %s", name)
}
