// Package policy has the admission policies that the operator is installed with, for the operator itself and for tests. The files
// beside this one are for kustomize, too, and both make the same objects of them.
package policy

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

//go:embed operator-*.yaml tenant-*.yaml
var files embed.FS

// users is the patch with the users that the policies trust.
//
//go:embed users.yaml
var users string

// probe has what the operator tries the policies out with.
//
//go:embed probe.yaml
var probe string

// What the files have of the operator, and what is in its place for another one.
const (
	defaultNamespace = "tenantry-system"
	defaultOperator  = "'system:serviceaccount:tenantry-system:tenantry'"
)

// Names in probe.yaml.
const (
	// ProbeNamespace is to the policies the namespace of a tenant that is active and in the phase Enforce, and ProbeAuditNamespace that
	// of a tenant that is suspended and in the phase Audit.
	ProbeNamespace, ProbeAuditNamespace = "tenantry-probe", "tenantry-probe-audit"
	// ProbeTenant is the name of the tenant of both.
	ProbeTenant = "tenantry-probe"
	// ProbeServiceAccount is who tries the policies out, in the operator's namespace.
	ProbeServiceAccount = "tenantry-probe"
)

// Set is what enforces that nothing runs without a tenant.
type Set struct {
	Policies []*admissionregistrationv1.ValidatingAdmissionPolicy
	Bindings []*admissionregistrationv1.ValidatingAdmissionPolicyBinding
	// Probe are the objects with which the policies are tried out, in the order in which they can be created.
	Probe []*unstructured.Unstructured
	// ClusterUsers are the names of the variables with the users of the cluster's own controllers. Their names can be others in a
	// cluster, so an installation may have changed these variables.
	ClusterUsers []string
}

// ServiceAccount is the user name of the operator's service account.
func ServiceAccount(operatorNamespace string) string {
	return "system:serviceaccount:" + operatorNamespace + ":tenantry"
}

// For returns the policies for an operator that has a namespace and acts as a user, in the order of their names. An error means that
// a file or the name of the user is not valid.
func For(operatorNamespace, user string) (Set, error) {
	if strings.ContainsAny(user, `'"\`) {
		return Set{}, fmt.Errorf("the user name %s can't be put into a policy, since it has a quotation mark or a backslash", user)
	}
	trusted := strings.NewReplacer(defaultOperator, "'"+user+"'", defaultNamespace, operatorNamespace).Replace(users)
	data, err := yaml.YAMLToJSON([]byte(trusted))
	if err != nil {
		return Set{}, fmt.Errorf("reading users.yaml: %w", err)
	}
	patch, err := jsonpatch.DecodePatch(data)
	if err != nil {
		return Set{}, fmt.Errorf("reading users.yaml: %w", err)
	}
	var set Set
	if set.ClusterUsers, err = clusterUsers(patch); err != nil {
		return Set{}, fmt.Errorf("reading users.yaml: %w", err)
	}
	if err := set.addProbe(strings.ReplaceAll(probe, defaultNamespace, operatorNamespace)); err != nil {
		return Set{}, fmt.Errorf("reading probe.yaml: %w", err)
	}
	return set, fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		if err := set.add(data, patch); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		return nil
	})
}

// clusterUsers are the names of the variables that a patch adds, but for those about the operator.
func clusterUsers(patch jsonpatch.Patch) ([]string, error) {
	var names []string
	for _, operation := range patch {
		value, err := operation.ValueInterface()
		if err != nil {
			return nil, err
		}
		variable, _ := value.(map[string]any)
		if name, _ := variable["name"].(string); !strings.HasPrefix(name, "operator") {
			names = append(names, name)
		}
	}
	return names, nil
}

// documents calls f with each document of a file.
func documents(data []byte, f func(document []byte) error) error {
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(document)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Set) addProbe(data string) error {
	return documents([]byte(data), func(document []byte) error {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, obj); err != nil {
			return err
		}
		s.Probe = append(s.Probe, obj)
		return nil
	})
}

// add adds the policies and bindings of a file.
func (s *Set) add(data []byte, patch jsonpatch.Patch) error {
	return documents(data, func(document []byte) error {
		if !bytes.Contains(document, []byte("\nkind: ValidatingAdmissionPolicy\n")) {
			binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
			s.Bindings = append(s.Bindings, binding)
			return yaml.UnmarshalStrict(document, binding)
		}
		document, err := yaml.YAMLToJSON(document)
		if err != nil {
			return err
		}
		if document, err = patch.Apply(document); err != nil {
			return err
		}
		policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
		s.Policies = append(s.Policies, policy)
		return yaml.UnmarshalStrict(document, policy)
	})
}
