package view

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
)

func patchWithLimit(quantity string) []byte {
	return fmt.Appendf(nil, `{"spec":{"template":{"$patch":"replace","spec":{"containers":[{"name":"a","image":"a:1","resources":{"limits":{"cpu":%s}}}]}}}}`, quantity)
}

// Numbers that take gigabytes or hours to write out are not decoded, however they are written.
func TestNumbersThatAreTooLong(t *testing.T) {
	for quantity, want := range map[string]bool{
		`"1"`: true, `1`: true, `0.5`: true, `"1e3"`: true, `"12E6"`: true, `"1e-3"`: true, `"100m"`: true, `"1Ei"`: true, `"2E"`: true, `"1e0000000009"`: true,
		`"123456789012345678901234567890"`:            true,
		`"1e1999999998"`:                              false,
		`1e1999999998`:                                false,
		`"1E+30000000"`:                               false,
		`"1e-1999999998"`:                             false,
		`"-1e100"`:                                    false,
		`"\u0031\u0065300000000"`:                     false,
		`"` + strings.Repeat("9", 1<<20) + `"`:        false,
		`"` + strings.Repeat("9", 1<<20) + `Ki"`:      false,
		`"0.` + strings.Repeat("1", 1<<20) + `"`:      false,
		strings.Repeat("9", 1<<20):                    false,
		`"` + strings.Repeat("9", 1<<20) + `e9"`:      false,
		`"` + strings.Repeat("9", 1<<20) + `e1234Ki"`: true, // not a number, and refused as such
	} {
		if got := !hasLongNumber(patchWithLimit(quantity)); got != want {
			t.Errorf("%.60s: %v, want %v", quantity, got, want)
		}
	}
	if t.Failed() {
		return // what follows would take hours
	}
	bomb, again := patchWithLimit(`"1e1999999998"`), patchWithLimit(`"1e1999999998"`)
	if templateDigest(bomb) != templateDigest(again) || templateDigest(bomb) == templateDigest(patchWithLimit(`"1e1999999999"`)) {
		t.Error("such data do not equal only themselves")
	}
	r := &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: bomb}}
	if _, err := AtRevision(&appsv1.DaemonSet{}, r); err == nil || RevisionImages(r) != nil {
		t.Errorf("the template of such data is used: %v", err)
	}
}

// Other texts with digits are not numbers.
func TestTextsThatAreNotNumbers(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "v1e1000", "1e1000x", "sha256:" + strings.Repeat("1", 64), "2026-11-30T12:00:00Z", "-", "e999", "1e", "a1e999", strings.Repeat("1", 64)} {
		if hasLongNumber(patchWithLimit(fmt.Sprintf("%q", text))) {
			t.Errorf("%s is taken for a long number", text)
		}
	}
}

// Where a template has no quantity, a text may look like a number: a template with the name of a commit can be read.
func TestCommitsAreNotNumbers(t *testing.T) {
	data := []byte(`{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"version":"12e4567","limits":"1e98765"},"annotations":{"a":"5e99999999"}},
		"spec":{"nodeSelector":{"requests":"1e98765"},"containers":[{"name":"a","image":"1e98765","args":["1e98765"],"resources":{"limits":{"cpu":"1"}},
		"env":[{"name":"GIT_SHA","value":"1e98765"}, {"name":"limits" , "value" : "1e98765"}]}]}}}}`)
	at, err := AtRevision(&appsv1.DaemonSet{}, &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: data}})
	if err != nil || at.Spec.Template.Spec.Containers[0].Env[0].Value != "1e98765" {
		t.Errorf("%v, %v", at, err)
	}
}

// Every field of a template that is decoded as a quantity is one that hasLongNumber looks at.
func TestQuantitiesOfTemplates(t *testing.T) {
	seen, found := map[reflect.Type]bool{}, 0
	var walk func(of reflect.Type, field string)
	walk = func(of reflect.Type, field string) {
		switch {
		case of == reflect.TypeFor[resource.Quantity]():
			if found++; !isQuantity(field) && !hasQuantities(field) {
				t.Errorf("a quantity in a field %s may have any length", field)
			}
			return
		case of.Kind() == reflect.Struct && seen[of]:
			return
		}
		seen[of] = true
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(of.Elem(), field)
		case reflect.Struct:
			for i := range of.NumField() {
				name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
				walk(of.Field(i).Type, name)
			}
		}
	}
	walk(reflect.TypeFor[corev1.PodTemplateSpec](), "")
	if found < 4 {
		t.Errorf("%d quantities were found in a template", found)
	}
	for _, place := range []string{`"overhead":{"cpu":"1e999"}`, `"volumes":[{"name":"a","emptyDir":{"sizeLimit":"1e999"}}]`,
		`"resources":{"requests":{"cpu": "1e999"}}`, `"\u006cimits":{"cpu":"1e999"}`, `"a":{"limits":{"b":"c"}, "requests" : {"cpu":"1","d":"1e999"}}`,
		`"env":[{"valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"1e999"}}}]`, `"limits":[{"cpu":"1e999"}]`} {
		if !hasLongNumber([]byte(`{"spec":{"template":{"spec":{` + place + `}}}}`)) {
			t.Errorf("%s is decoded", place)
		}
	}
}

// What a revision is compared by and what is made from it are the same template: the one with the field's right name.
func TestRevisionHasOneTemplate(t *testing.T) {
	const good, evil = `{"$patch":"replace","spec":{"containers":[{"name":"a","image":"good:1"}]}}`, `{"$patch":"replace","spec":{"containers":[{"name":"a","image":"evil:1"}]}}`
	both := []byte(`{"spec":{"template":` + evil + `,"Template":` + good + `}}`)
	if templateDigest(both) != templateDigest([]byte(`{"spec":{"template":`+evil+`}}`)) {
		t.Error("it is compared by another template than the one that it restores")
	}
	at, err := AtRevision(&appsv1.DaemonSet{}, &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: both}})
	if err != nil || at.Spec.Template.Spec.Containers[0].Image != "evil:1" {
		t.Errorf("%v, %v", at, err)
	}
}

func FuzzHasLongNumber(f *testing.F) {
	f.Add([]byte(`{"a":"1e999","b":[1,-2.5e3,"\"\\"]}`))
	f.Fuzz(func(_ *testing.T, data []byte) { hasLongNumber(data) })
}
