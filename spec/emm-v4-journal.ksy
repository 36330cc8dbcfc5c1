# A journal segment of EMM v4 (spec/emm-v4.md, section 4) for Kaitai Struct.
#
# Why it stands beside emm-v4.ksy instead of in it: see the head of that file.
#
# A segment grows, and a power cut leaves half a record at its end, so this description never fails past the segment
# header: `records` are those that are framed (J-6: magic, a length within S-3 that fits the file), `tail` is whatever
# follows the last one. Whether a tail is torn, dead or corrupt is what R-6 decides. Typed bodies are instances: they are
# read, and their values checked (J-13 to J-17), when they are asked for, which a reader does once it has compared the
# two CRCs. What Kaitai cannot compute stays with the reader: CRC-32 (J-2, J-7, J-10), the chain (J-12), the order of
# records (J-11), and everything that needs the memory's state or directory (N-2, J-5 uuid, J-13 dim and rank, R-rules).
#
# Field names, sizes, types and enumerations are those of emm/layout.py; tests/spec/test_kaitai.py holds them equal.
meta:
  id: emm_v4_journal
  title: EMM v4 journal segment (matrix memory)
  application: EMM
  file-extension: wal
  license: MIT
  ks-version: '0.11'
  endian: le
doc: |
  One file of a memory's journal: a header and then records, each a multiple of 8 bytes. Records of types write,
  unlearn, forget, expand and parameters form a batch that the following commit closes; marks and seals stand between.
doc-ref: spec/emm-v4.md section 4
seq:
  - id: header
    type: segment_header
  - id: records
    type: 'record(_index == 0 ? 128 : records[_index - 1].end)'
    repeat: until
    repeat-until: not _.next.is_framed
    if: first.is_framed
    doc: J-6, they follow one another without gaps.
  - id: tail
    size-eos: true
    doc: R-6, bytes that are not a record. Empty in a segment that was closed.
instances:
  first:
    pos: 128
    type: frame(128)
types:
  segment_header:
    doc: 128 bytes.
    seq:
      - id: magic
        contents: [0x89, EMJ, 0x0d, 0x0a, 0x1a, 0x0a]
        doc: J-1.
      - id: version_major
        type: u2
        valid: 4
        doc: J-3.
      - id: version_minor
        type: u2
        doc: A higher one adds only what a reader may ignore.
      - id: flags
        type: u4
        valid: 0
        doc: J-3.
      - id: segment
        type: u8
        valid:
          min: 1
          max: '9_999_999_999_999_999'
        doc: J-5 and N-1, the number in the file's name (N-2).
      - id: first_lsn
        type: u8
        valid:
          min: 1
        doc: J-5, LSN of the first commit; commits at or past it in earlier segments are dead (R-5).
      - id: floor_generation
        type: u8
        valid:
          min: 1
        doc: J-5, oldest snapshot this segment may be replayed onto (R-4).
      - id: uuid
        size: 16
        doc: J-5, the memory's identity.
      - id: writer_nonce
        size: 16
        doc: Random number of the writer session.
      - id: chain
        size: 32
        doc: J-12, chain value before `first_lsn`.
      - id: previous_bytes
        type: u8
        doc: R-6, valid length of the segment before, as this writer found it; 0 = none.
      - id: rank
        type: u4
        valid:
          expr: _ >= 1 and _ <= 16777216 and _ % 16 == 0
        doc: J-5 and R-5, rank of the state before `first_lsn`.
      - id: reserved
        size: 8
        valid:
          expr: _.max == 0
        doc: J-4.
      - id: crc32
        type: u4
        doc: J-2, CRC-32 of bytes 0 to 123, for the reader to compare.
  record_header:
    doc: |
      32 bytes. Nothing is validated here: a torn record's header may hold anything, and only its CRC (J-7) tells. Once
      that agrees, a reader refuses a header that is not `is_known` and not `is_consistent`.
    seq:
      - id: magic
        type: u4
        doc: J-6, 45 4D 4A 52, "EMJR".
      - id: type
        type: u2
        enum: record_type
        doc: J-8.
      - id: flags
        type: u2
        doc: J-8, zero in version 4.0.
      - id: lsn
        type: u8
        doc: J-9 and J-11, LSN of the commit this record belongs to; of the last commit for mark and seal.
      - id: synced_through
        type: u8
        doc: J-9 and J-19, every commit up to this LSN is known to be durable.
      - id: length
        type: u4
        doc: Bytes of the payload, before padding.
      - id: crc32
        type: u4
        doc: J-7, CRC-32 of bytes 0 to 27, for the reader to compare.
    instances:
      is_between:
        value: type == record_type::mark or type == record_type::seal
        doc: J-11, stands between batches.
      is_known:
        value: >-
          flags == 0 and (is_between or type == record_type::write or type == record_type::unlearn
          or type == record_type::forget or type == record_type::expand or type == record_type::parameters
          or type == record_type::commit)
        doc: J-8.
      is_consistent:
        value: (is_between or lsn >= 1) and synced_through <= lsn
        doc: J-9.
      padding_bytes:
        value: (8 - (length + 36) % 8) % 8
        doc: J-6, the least number of zeros that makes the record a multiple of 8 bytes.
      record_bytes:
        value: 36 + length + padding_bytes
        doc: J-6, header, payload, zeros and trailing CRC.
  frame:
    doc: A look at the place where a record may start.
    params:
      - id: offset
        type: u8
    seq:
      - id: header
        type: record_header
        if: offset + 32 <= _io.size
    instances:
      is_framed:
        value: >-
          offset + 32 <= _io.size and header.magic == 0x524a4d45 and header.record_bytes <= 16777216
          and offset + header.record_bytes <= _io.size
        doc: J-6, a record starts here and ends within the file; S-3, it is at most 16 MiB.
  record:
    params:
      - id: offset
        type: u8
        doc: Where the record starts in the segment.
    seq:
      - id: header
        type: record_header
      - id: payload
        size: header.length
        type: payload(header.type)
      - id: padding
        size: header.padding_bytes
        doc: J-10, zeros, for the reader to check with the CRC.
      - id: crc32
        type: u4
        doc: J-10, CRC-32 of the memory's UUID, header, payload and padding, for the reader to compare.
    instances:
      end:
        value: offset + header.record_bytes
        doc: Where the next record starts.
      next:
        pos: end
        type: frame(end)
  payload:
    params:
      - id: type
        type: u2
        enum: record_type
    instances:
      raw:
        pos: 0
        size-eos: true
        doc: The bytes that J-10 and J-12 cover.
      body:
        pos: 0
        size-eos: true
        type:
          switch-on: type
          cases:
            'record_type::write': write_body
            'record_type::unlearn': unlearn_body
            'record_type::forget': forget_body
            'record_type::expand': expand_body
            'record_type::parameters': parameters_body
            'record_type::commit': commit_body
            'record_type::mark': empty_body
            'record_type::seal': empty_body
        doc: The payload by its type. Each body ends with `rest`, which is empty, so the length is the one that it gives.
  write_body:
    doc: J-13, pairs to absorb.
    seq:
      - id: pairs
        type: pairs_header
      - id: decay_gates
        type: decay_gate
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: write_gates
        type: write_gate
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: keys
        type: vector(pairs.key_dim)
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: values
        type: vector(pairs.dim)
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: rest
        size-eos: true
        valid:
          expr: _.size == 0 and pairs.dim >= 1
  unlearn_body:
    doc: J-13, pairs to take out; no decay gates.
    seq:
      - id: pairs
        type: pairs_header
      - id: write_gates
        type: write_gate
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: keys
        type: vector(pairs.key_dim)
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: values
        type: vector(pairs.dim)
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: rest
        size-eos: true
        valid:
          expr: _.size == 0 and pairs.dim >= 1
  forget_body:
    doc: J-13, keys to make M answer nothing to; no gates, no values.
    seq:
      - id: pairs
        type: pairs_header
      - id: keys
        type: vector(pairs.key_dim)
        repeat: expr
        repeat-expr: pairs.n_pairs
      - id: rest
        size-eos: true
        valid:
          expr: _.size == 0 and pairs.dim == 0
  expand_body:
    doc: A bare expansion (A-18).
    seq:
      - id: expand
        type: expand_payload
      - id: rest
        size-eos: true
        valid:
          expr: _.size == 0
  parameters_body:
    seq:
      - id: parameters
        type: parameters_payload
      - id: rest
        size-eos: true
        valid:
          expr: _.size == 0
  commit_body:
    doc: Closes a batch (J-11).
    seq:
      - id: commit
        type: commit_payload
      - id: rest
        size-eos: true
        valid:
          expr: _.size == 0
  empty_body:
    doc: J-11, marks and seals have no payload.
    seq:
      - id: rest
        size-eos: true
        valid:
          expr: _.size == 0
  decay_gate:
    seq:
      - id: alpha
        type: f4
        valid:
          expr: _ > 0.0 and _ <= 1.0
        doc: J-15, α.
  write_gate:
    seq:
      - id: beta
        type: f4
        valid:
          min: 0.0009765625
          max: 32.0
        doc: J-15, β.
  vector:
    params:
      - id: n_numbers
        type: u4
    seq:
      - id: numbers
        type: f4
        repeat: expr
        repeat-expr: n_numbers
        valid:
          min: -1099511627776.0
          max: 1099511627776.0
        doc: J-14, finite and at most 2⁴⁰ in size.
  pairs_header:
    doc: 16 bytes (J-13).
    seq:
      - id: n_pairs
        type: u4
        valid:
          min: 1
        doc: Pairs (or keys) in this record.
      - id: key_dim
        type: u4
        valid:
          min: 1
          max: 16777216
        doc: Numbers in a key.
      - id: dim
        type: u4
        valid:
          max: 16777216
        doc: Numbers in a value; 0 in a forget record.
      - id: rank
        type: u4
        valid:
          expr: _ >= 1 and _ <= 16777216 and _ % 16 == 0
        doc: Rank at which the pairs were written (R-8).
  expand_payload:
    doc: 8 bytes (J-17).
    seq:
      - id: rank
        type: u4
        valid:
          expr: _ >= 1 and _ <= 16777216 and _ % 16 == 0
        doc: The new rank, twice the state's and allowed by H-7.
      - id: reserved
        size: 4
        valid:
          expr: _.max == 0
  parameters_payload:
    doc: 8 bytes (J-17).
    seq:
      - id: expand_at
        type: f4
        valid:
          min: 0.0
          max: 1.0
        doc: The new threshold; 0 = never.
      - id: reserved
        size: 4
        valid:
          expr: _.max == 0
  commit_payload:
    doc: 56 bytes (J-16).
    seq:
      - id: time_us
        type: s8
        doc: When, microseconds since 1970-01-01 UTC.
      - id: n_records
        type: u4
        valid:
          min: 1
        doc: Records of the batch before this one (J-11).
      - id: n_pairs
        type: u4
        doc: Pairs (or keys) in them.
      - id: surprise
        type: f4
        valid:
          min: 0.0
          max: 3.4028234663852886e+38
        doc: A-15, mean over the pairs of ‖e‖₂; 0 where undefined.
      - id: reserved
        size: 4
        valid:
          expr: _.max == 0
      - id: chain
        size: 32
        doc: J-12, SHA-256 of the chain before and the batch, for the reader to compare.
enums:
  record_type:
    1: write
    2: unlearn
    3: forget
    4: expand
    5: parameters
    6: commit
    7: mark
    8: seal
