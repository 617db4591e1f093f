package compat

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
)

// apiServerEnv names a kube-apiserver of another Kubernetes version, which the tests use in
// place of the one in this process. The program's folder is named after its version, "v1.36".
const apiServerEnv = "EVERYNODE_COMPAT_APISERVER"

// configureProgram is configure for such a program.
func configureProgram(program string) func(context.Context, string, string) (*rest.Config, func(context.Context) error, error) {
	return func(_ context.Context, dir, etcd string) (*rest.Config, func(context.Context) error, error) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		port := listener.Addr().(*net.TCPAddr).Port
		if err := listener.Close(); err != nil {
			return nil, nil, err
		}
		const token = "compat"
		files := map[string][]byte{"tokens.csv": []byte(token + ",admin,admin,system:masters\n")}
		files["tls.crt"], files["tls.key"], err = certutil.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
		if err != nil {
			return nil, nil, err
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				return nil, nil, err
			}
		}
		flags, err := serverFlags(dir, etcd, port)
		if err != nil {
			return nil, nil, err
		}
		flags = append(flags, "--token-auth-file="+filepath.Join(dir, "tokens.csv"),
			"--tls-cert-file="+filepath.Join(dir, "tls.crt"), "--tls-private-key-file="+filepath.Join(dir, "tls.key"))
		config := &rest.Config{Host: "https://127.0.0.1:" + strconv.Itoa(port), BearerToken: token, QPS: -1,
			TLSClientConfig: rest.TLSClientConfig{CAData: files["tls.crt"]}}
		return config, func(ctx context.Context) error {
			return runProgram(ctx, filepath.Join(dir, "kube-apiserver.log"), program, flags...)
		}, nil
	}
}

// runManager runs only the DaemonSet controller of a kube-controller-manager.
func runManager(ctx context.Context, dir, program string, config *rest.Config) error {
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["c"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	kubeconfig.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	kubeconfig.CurrentContext = "c"
	file := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, file); err != nil {
		return err
	}
	return runProgram(ctx, filepath.Join(dir, "kube-controller-manager.log"), program, "--kubeconfig="+file, "--controllers=daemonset",
		"--leader-elect=false", "--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=2000", "--profiling=false")
}

// runProgram runs a program until ctx ends. If the test dies, the kernel ends the program
// together with the thread that started it.
func runProgram(ctx context.Context, logFile, program string, args ...string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil // it was told to end
	}
	text, _ := os.ReadFile(logFile)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s ended by itself: %w\n%s", program, err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
}
