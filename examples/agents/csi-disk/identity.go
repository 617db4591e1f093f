package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// identity answers which driver this is.
type identity struct {
	csi.UnimplementedIdentityServer
	taken *atomic.Bool // by the kubelet
}

func (*identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driverName, VendorVersion: "1"}, nil
}

func (*identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	var list []*csi.PluginCapability
	for _, can := range []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE,
		csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS,
	} {
		list = append(list, &csi.PluginCapability{
			Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: can}},
		})
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: list}, nil
}

// Probe reports the driver ready once the kubelet has registered it. The provisioner beside it waits for that: a volume that is
// created earlier could not be mounted.
func (i *identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(i.taken.Load())}, nil
}

// kubeletRegistration answers the kubelet on the socket through which it learns about a driver. Most drivers run Kubernetes'
// node-driver-registrar for this.
type kubeletRegistration struct {
	registration.UnimplementedRegistrationServer
	endpoint string // where the driver serves, as the kubelet sees it
	taken    *atomic.Bool
	refused  chan<- error
}

func (k *kubeletRegistration) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: driverName, Endpoint: k.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus is called each time the kubelet has looked at the driver, including after each restart of the
// kubelet.
func (k *kubeletRegistration) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	k.taken.Store(status.GetPluginRegistered())
	if !status.GetPluginRegistered() {
		select {
		case k.refused <- fmt.Errorf("the kubelet refuses the driver: %s", status.GetError()):
		default: // serve has one already
		}
	}
	return &registration.RegistrationStatusResponse{}, nil
}
