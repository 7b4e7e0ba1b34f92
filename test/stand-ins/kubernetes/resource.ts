import type { Cause } from './api-error.ts';
import type { ApiObject } from './objects.ts';
import type { MergeRules } from './patch.ts';

export type Subresource = 'status' | 'binding' | 'eviction' | 'token' | 'finalize' | 'scale';

// Declared as a method so that a Resource<Pod> is a Resource: the store gives each its own objects.
type Getter<T, R> = { get(object: T): R }['get'];

/** What the API server knows of one kind: where it is served, and its rules for writes. */
export interface Resource<T extends ApiObject = ApiObject> {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly subresources: readonly Subresource[];
  /** Updates without a resourceVersion are taken; else they are 422. */
  readonly unconditionalUpdate: boolean;
  /** A PUT of an absent object creates it. */
  readonly createOnUpdate: boolean;
  /** DELETE answers with the object instead of a Status. */
  readonly returnsDeleted: boolean;
  readonly hasSpec: boolean;
  /** Objects carry metadata.generation, counted up when the spec changes. */
  readonly counted: boolean;
  /** Fields a field selector may name, besides metadata.name and metadata.namespace. */
  readonly fields: Readonly<Record<string, Getter<T, string>>>;
  /** Lookups other than by key; a selector on a field of the same name uses them. */
  readonly indexes: Readonly<Record<string, Getter<T, string | undefined>>>;
  readonly mergeRules: MergeRules;
  /** Fills in defaults; `object` comes fresh from a request and may be changed. */
  prepareCreate(object: T, nowMs: number): void;
  prepareUpdate(object: T, current: T, nowMs: number): void;
  validate(object: T, current: T | undefined): Cause[];
  /** The object as it is shown once it is being deleted. */
  deleting(object: T): T;
  /** The grace an object gets when it is deleted, in seconds; undefined: it goes at once. */
  graceSeconds(object: T, requestedSeconds: number | undefined): number | undefined;
}

type Required = 'group' | 'version' | 'plural' | 'singular' | 'kind' | 'namespaced';

export function defineResource<T extends ApiObject>(
  given: Pick<Resource<T>, Required> & Partial<Resource<T>>,
): Resource<T> {
  return {
    shortNames: [],
    subresources: [],
    unconditionalUpdate: true,
    createOnUpdate: false,
    returnsDeleted: false,
    hasSpec: true,
    counted: false,
    fields: {},
    indexes: {},
    mergeRules: {},
    prepareCreate() {},
    prepareUpdate() {},
    validate: () => [],
    deleting: (object) => object,
    graceSeconds: () => undefined,
    ...given,
  };
}
