package view

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// digest stands for the data of a revision, which may be as large as an object of the API can be.
type digest [sha256.Size]byte

// templateDigest returns equal digests for two revisions that restore the same template. Different bytes may
// mean the same: "creationTimestamp":null, which API servers wrote up to 1.33, is not a timestamp; an absent
// field has its default; 1000m is 1. Treating these as different would restart every pod of a cluster for no
// reason.
//
// Data that cannot be parsed equals only itself.
func templateDigest(data []byte) (d digest) {
	template, ok := readTemplate(data)
	if !ok {
		return sha256.Sum256(append([]byte("unreadable: "), data...))
	}
	setTemplateDefaults(template)
	f := folder{sha256.New()}
	f.fold(reflect.ValueOf(template).Elem())
	return digest(f.Sum(nil))
}

// folder writes a value so that two values of one type are written alike if, and only if, the API considers
// them equal: apiequality.Semantic of k8s.io/apimachinery.
type folder struct{ hash.Hash }

func (f folder) fold(v reflect.Value) {
	switch x := v.Interface().(type) {
	case resource.Quantity:
		f.text(number(x))
		return
	case metav1.Time:
		f.count(int(x.UnixNano()))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		f.foldPointer(v)
	case reflect.Struct:
		for i := range v.NumField() {
			f.fold(v.Field(i))
		}
	case reflect.Slice:
		f.count(v.Len())
		for i := range v.Len() {
			f.fold(v.Index(i))
		}
	case reflect.Map:
		f.foldMap(v)
	default:
		f.text(fmt.Sprint(v.Interface()))
	}
}

func (f folder) foldPointer(v reflect.Value) {
	if v.IsNil() {
		f.count(0)
		return
	}
	f.count(1)
	f.fold(v.Elem())
}

func (f folder) foldMap(v reflect.Value) {
	keys := slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	f.count(len(keys))
	for _, key := range keys {
		f.text(key.String())
		f.fold(v.MapIndex(key))
	}
}

func (f folder) count(n int) { f.Write(binary.AppendVarint(nil, int64(n))) }

// text writes a text preceded by its length, so that two texts in a row cannot be confused with two others.
func (f folder) text(s string) {
	f.count(len(s))
	f.Write([]byte(s))
}

// number returns the quantity's value, however it was written.
func number(q resource.Quantity) string {
	if n, ok := new(big.Rat).SetString(q.AsDec().String()); ok {
		return n.RatString()
	}
	return q.String()
}
