# The snapshot file of EMM v4 (spec/emm-v4.md, section 3) for Kaitai Struct.
#
# Two descriptions, not one: a snapshot (this file, `.emm`) and a journal segment (emm-v4-journal.ksy, `.wal`) share no
# record and no enumeration, and Kaitai tools choose a description by `file-extension`. One description that chose by
# magic would put every field one level deeper for nothing. Tell them apart by byte 3: `4D` here, `4A` there.
#
# What is checked here: everything that `contents` and `valid` can say about bytes already read (the doc strings cite
# the rules). A file that breaks one of these raises a validation error. What Kaitai cannot compute stays with the
# reader: CRC-32 and SHA-256 (H-2, H-12, T-2, T-3), equality of head and mirror (T-4), the JSON inside the metadata
# (M-1 and M-3 to M-5), the upper bound of `leak` (P-4), P-5, P-6, N-2 and S-1. Because no CRC is computed, damage and
# an unknown version cannot be told apart here (H-2): check `crc32` of the first 124 bytes before believing an error.
#
# Numbers above 2^53 stand in quotes: a YAML reader written in JavaScript would round them.
#
# Field names, sizes, types and enumerations are those of emm/layout.py; tests/spec/test_kaitai.py holds them equal.
meta:
  id: emm_v4
  title: EMM v4 snapshot (matrix memory)
  application: EMM
  file-extension: emm
  license: MIT
  ks-version: '0.11'
  encoding: UTF-8
  endian: le
doc: |
  A whole state of one matrix memory. Header, lineage, integrity table, metadata, zeros to a multiple of 4096, the
  payload in blocks of 65536 bytes, and a mirror of the head in reverse, so that the last 128 bytes are the header again.
doc-ref: spec/emm-v4.md section 3
seq:
  - id: header
    type: header
  - id: lineage
    type: lineage(header.generation)
  - id: table
    type: block_entry
    repeat: expr
    repeat-expr: n_blocks
    doc: T-1, one entry per block, in order.
  - id: metadata
    size: header.metadata_bytes
    type: str
    doc: M-1, one JSON object in canonical form. A reader must not use a string of it as a path or URL (M-5).
  - id: padding
    size: payload_offset - head_bytes
    valid:
      expr: _.size == 0 or _.max == 0
    doc: P-2, zeros up to the payload.
  - id: payload
    size: n_blocks * 65536
    type: payload
  - id: mirror
    type: mirror
    doc: T-4, table, metadata, lineage and header once more, byte for byte.
  - id: trailing
    size-eos: true
    valid:
      expr: _.size == 0
    doc: P-3, the file ends where its header says.
instances:
  n_blocks:
    value: (header.payload_bytes + 65535) / 65536
    doc: T-1, blocks of the payload, the last one zero-padded.
  head_bytes:
    value: 288 + 36 * n_blocks + header.metadata_bytes
    doc: Header, lineage, table and metadata, before the padding.
  payload_offset:
    value: (head_bytes + 4095) / 4096 * 4096
    doc: Where the payload starts.
  mirror_offset:
    value: payload_offset + 65536 * n_blocks
    doc: Where the mirror starts.
  file_bytes:
    value: mirror_offset + head_bytes
    doc: P-3, the file's length.
types:
  header:
    doc: 128 bytes.
    seq:
      - id: magic
        contents: [0x89, EMM, 0x0d, 0x0a, 0x1a, 0x0a]
        doc: H-1, identifies the file and catches text-mode damage.
      - id: version_major
        type: u2
        valid: 4
        doc: H-3, a reader refuses any other.
      - id: version_minor
        type: u2
        doc: H-3, a higher one adds only what a reader may ignore.
      - id: flags
        type: u4
        valid:
          expr: (_ & 0xffffffd0) == 0
        doc: H-4, bits of the enumeration `flag`; a reader refuses a file with one that it does not know.
      - id: dim
        type: u4
        valid:
          min: 1
          max: 16777216
        doc: H-6, numbers in a value; rows of M.
      - id: key_dim
        type: u4
        valid:
          min: 1
          max: 16777216
        doc: H-6, numbers in a key.
      - id: rank
        type: u4
        valid:
          expr: _ >= 1 and _ <= 16777216 and _ % 16 == 0
        doc: H-6 and H-7, numbers in x = φ(key); columns of M; a multiple of 16.
      - id: dtype
        type: u1
        valid: 1
        doc: H-8, 1 = IEEE-754 binary32.
      - id: rule
        type: u1
        enum: rule
        valid:
          in-enum: true
        doc: H-8, how a pair is written.
      - id: projection
        type: u1
        enum: projection
        valid:
          expr: >-
            (_ == projection::hadamard and rank <= key_dim and (flags & 32) == 0)
            or (_ == projection::none and rank == (key_dim + 15) / 16 * 16)
        doc: H-8, how a key becomes x; H-7, and which ranks that allows; P-7, and no normaliser.
      - id: reserved_a
        type: u1
        valid: 0
        doc: H-5.
      - id: projection_seed
        type: u8
        doc: A-6, seed of the generator behind φ.
      - id: ridge
        type: f4
        valid:
          min: 0.00000095367431640625
          max: 1048576.0
        doc: H-9, λ, the prior's weight; P₀ = I/λ.
      - id: metadata_bytes
        type: u4
        valid:
          min: 2
          max: 16384
        doc: H-13 and M-2, length of the metadata.
      - id: generation
        type: u8
        valid:
          min: 1
          max: '9_999_999_999_999_999'
        doc: H-10, the number in the file's name (N-2).
      - id: lsn
        type: u8
        doc: Number of the last commit contained; 0 = none.
      - id: uuid
        size: 16
        doc: The memory's identity.
      - id: payload_bytes
        type: u8
        valid:
          expr: >-
            _ == 4 * rank.as<u8> * (rule == rule::preconditioned ? dim + rank + 16 : dim)
            + (rule == rule::preconditioned ? 64 : 0)
            + ((flags & 32) != 0 ? 4 * rank.as<u8> + 16 : 0)
        doc: H-11 and P-1, bytes of the payload before zero padding to whole blocks.
      - id: sha256
        size: 32
        doc: H-12, SHA-256 of every byte before the payload, with this field and `crc32` taken as zero.
      - id: reserved_b
        type: u4
        valid: 0
        doc: H-5.
      - id: crc32
        type: u4
        doc: H-2, CRC-32 of bytes 0 to 123, for the reader to compare.
    instances:
      is_decayed:
        value: (flags & flag::decayed.to_i) != 0
        doc: A write had a decay gate below 1.
      is_bare_expanded:
        value: (flags & flag::bare_expanded.to_i) != 0
        doc: A-18, the rank was raised without the pairs.
      is_forgotten:
        value: (flags & flag::forgotten.to_i) != 0
        doc: A-16, forget was used.
      is_foreign_pairs:
        value: (flags & flag::foreign_pairs.to_i) != 0
        doc: The state holds pairs that this memory's journal never held.
      is_normaliser:
        value: (flags & flag::normaliser.to_i) != 0
        doc: A-23, the payload ends in a normaliser.
  lineage:
    doc: 160 bytes.
    params:
      - id: snapshot_generation
        type: u8
        doc: The snapshot's generation, which bounds the floor (L-4).
    seq:
      - id: write_count
        type: u8
        doc: Pairs written so far, minus pairs unlearned.
      - id: time_us
        type: s8
        doc: When the snapshot was made, microseconds since 1970-01-01 UTC.
      - id: chain
        size: 32
        doc: J-12, chain value after commit `lsn`; zeros before the first.
      - id: parent_sha256
        size: 32
        doc: The `sha256` of the snapshot this one continues; zeros for none.
      - id: parent_uuid
        size: 16
        doc: Memory that a fork, merge or restore came from; zeros for none.
      - id: writer_nonce
        size: 16
        doc: Random number of the writer session that made it.
      - id: floor_generation
        type: u8
        valid:
          min: 1
          max: snapshot_generation
        doc: L-4, oldest snapshot from which the journal leads to this state.
      - id: segment_next
        type: u8
        valid:
          min: 1
          max: '9_999_999_999_999_999'
        doc: L-5, number of the first journal segment that can hold commits past `lsn`.
      - id: expand_at
        type: f4
        valid:
          min: 0.0
          max: 1.0
        doc: L-3, saturation above which rank doubles by re-solving; 0 = never.
      - id: origin
        type: u1
        enum: origin
        valid:
          expr: >-
            _ == origin::checkpoint or (floor_generation == snapshot_generation and (_ == origin::merge
            or _ == origin::resolve or _ == origin::upgrade or _ == origin::repair or _ == origin::restore))
        doc: L-2, how the snapshot came to be; L-4, for every origin but checkpoint the floor is the generation.
      - id: reserved
        size: 27
        valid:
          expr: _.max == 0
        doc: L-1.
  block_entry:
    doc: 36 bytes (T-1).
    seq:
      - id: crc32
        type: u4
        doc: T-2, CRC-32 of the block's 65536 bytes, for the reader to compare.
      - id: sha256
        size: 32
        doc: T-3, SHA-256 of the block's 65536 bytes, for the reader to compare.
  payload:
    doc: |
      The blocks that the table speaks of, and the arrays (P-1) as instances over the same bytes: M (dim rows), then for
      rule 2 P (rank rows), U (16 rows) and the scalars, then the normaliser where the flag says so. Instances are read when they are asked for.
    seq:
      - id: blocks
        size: 65536
        repeat: expr
        repeat-expr: _root.n_blocks
        doc: T-1.
    instances:
      has_gain:
        value: _root.header.rule == rule::preconditioned
      row_bytes:
        value: 4 * _root.header.rank.as<u8>
      m:
        pos: 0
        type: row
        repeat: expr
        repeat-expr: _root.header.dim
        doc: M, dim rows.
      p:
        pos: row_bytes * _root.header.dim
        type: row
        repeat: expr
        repeat-expr: _root.header.rank
        if: has_gain
        doc: P̄, rank rows.
      u:
        pos: row_bytes * (_root.header.dim + _root.header.rank)
        type: row
        repeat: expr
        repeat-expr: 16
        if: has_gain
        doc: U, 16 rows; those at and above `count` are +0 (P-6, for the reader to check).
      scalars:
        pos: row_bytes * (_root.header.dim + _root.header.rank + 16)
        type: gain_scalars
        if: has_gain
      normaliser:
        pos: _root.header.payload_bytes - row_bytes - 16
        type: normaliser
        if: _root.header.is_normaliser
      padding:
        pos: _root.header.payload_bytes
        size-eos: true
        valid:
          expr: _.size == 0 or _.max == 0
        doc: P-2, zeros up to the end of the last block.
  row:
    doc: P-1, one row of an array, without gaps.
    seq:
      - id: numbers
        type: f4
        repeat: expr
        repeat-expr: _root.header.rank
  gain_scalars:
    doc: 64 bytes (P-4).
    seq:
      - id: scale
        type: f4
        valid:
          min: 0.0
          max: 1.0
        doc: a, the factor on P̄.
      - id: leak
        type: f4
        valid:
          min: 0.0
        doc: b, the pending multiple of I. Its upper bound P₀(1 + 2⁻²⁰) is for the reader to check.
      - id: count
        type: u4
        valid:
          max: 15
        doc: c, rows of U in use.
      - id: signs
        type: u4
        valid:
          expr: (_ >> count) == 0
        doc: Bit k set means σₖ = −1; bits c and up are zero.
      - id: gram_trace
        type: f8
        valid:
          min: 0.0
          max: 1.7976931348623157e+308
        doc: h, Σ β xᵀx so far, decayed as P is.
      - id: reserved
        size: 40
        valid:
          expr: _.max == 0
  normaliser:
    doc: P-7. That n is finite, and +0 from key_dim on, is for the reader to check.
    seq:
      - id: n
        type: row
      - id: reading
        type: read_scalars
  read_scalars:
    doc: 16 bytes (P-7).
    seq:
      - id: floor
        type: f8
        valid:
          min: 2.2250738585072014e-308
          max: 1.0218702384817765e+295
        doc: The least denominator.
      - id: query_length
        type: u4
        valid:
          max: 1
        doc: Whether `floor` is taken times the length of the query.
      - id: reserved
        size: 4
        valid:
          expr: _.max == 0
  mirror:
    doc: T-4.
    seq:
      - id: table
        type: block_entry
        repeat: expr
        repeat-expr: _root.n_blocks
      - id: metadata
        size: _root.header.metadata_bytes
        type: str
      - id: lineage
        type: lineage(_root.header.generation)
      - id: header
        type: header
enums:
  rule:
    0: outer_product
    1: gated_delta
    2: preconditioned
  projection:
    0: none
    1: hadamard
  flag:
    1: decayed
    2: bare_expanded
    4: forgotten
    8: foreign_pairs
    32: normaliser
  origin:
    0: checkpoint
    1: merge
    2: resolve
    3: upgrade
    4: repair
    5: restore
