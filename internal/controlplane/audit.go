package controlplane

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	auditpolicy "k8s.io/apiserver/pkg/audit/policy"

	"everynode/internal/controlplane/private"
	"everynode/internal/strictyaml"
)

// The audit log is a file of at most auditSize MiB. Beside it there are up to auditFiles
// older files, compressed and at most auditDays old.
const (
	auditSize  = 100
	auditFiles = 9
	auditDays  = 30
)

// The folder of the audit log, and what is in it.
const (
	AuditDir    = "audit"
	auditLog    = "audit.log"
	auditPolicy = "policy.yaml"
)

// AuditFiles returns patterns of the files in AuditDir.
func AuditFiles() []string {
	return []string{auditPolicy, "audit.log", "audit-*.log", "audit-*.log.gz"}
}

//go:embed audit.yaml
var defaultAuditPolicy []byte

// auditing is the audit log of an API server: what it records, and where it is.
type auditing struct {
	data   dataFolder
	policy []byte // nil: there is no log
}

// readAuditing returns the audit log with the policy that readAuditPolicy returns.
func readAuditing(data dataFolder, on bool, policyFile string) (auditing, error) {
	policy, err := readAuditPolicy(on, policyFile)
	return auditing{data, policy}, err
}

// readAuditPolicy returns the policy in file, or the default one, and refuses one that
// is not valid: the API server itself would ignore fields that it does not know, and
// record less than the author of the policy wanted.
func readAuditPolicy(on bool, file string) ([]byte, error) {
	switch {
	case !on && file != "":
		return nil, errors.New("there is a policy for the audit log, but the audit log is off: leave out the policy, or turn the log on")
	case !on:
		return nil, nil
	case file == "":
		return defaultAuditPolicy, nil
	}
	text, err := readTrusted(file)
	if err != nil {
		return nil, fmt.Errorf("read the policy of the audit log: %w", err)
	}
	strict := serializer.NewCodecFactory(audit.Scheme, serializer.EnableStrict).UniversalDecoder()
	if _, _, err := strict.Decode(text, nil, &auditinternal.Policy{}); err != nil {
		return nil, fmt.Errorf("%s is not a policy of audit.k8s.io/v1: %w", file, err)
	}
	if _, err := strictyaml.ToJSON(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if _, err := auditpolicy.LoadPolicyFromBytes(text); err != nil {
		return nil, fmt.Errorf("%s is not a policy of audit.k8s.io/v1: %w", file, err)
	}
	return text, nil
}

// write writes the policy that was checked to where the API server reads it.
func (a auditing) write() error {
	if a.policy == nil {
		return nil
	}
	if err := private.MakeDir(a.data.path(AuditDir)); err != nil {
		return err
	}
	return private.WriteIfChanged(a.data.path(AuditDir, auditPolicy), a.policy)
}

// flags returns kube-apiserver's flags for the log. The API server creates the
// files with mode 0600. A full disk does not stop requests.
func (a auditing) flags() []string {
	if a.policy == nil {
		return nil
	}
	return []string{
		"--audit-policy-file=" + a.data.path(AuditDir, auditPolicy),
		"--audit-log-path=" + a.data.path(AuditDir, auditLog),
		"--audit-log-maxsize=" + strconv.Itoa(auditSize),
		"--audit-log-maxbackup=" + strconv.Itoa(auditFiles),
		"--audit-log-maxage=" + strconv.Itoa(auditDays),
		"--audit-log-compress=true",
	}
}
