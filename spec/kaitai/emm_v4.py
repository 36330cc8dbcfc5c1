# This is a generated file! Please edit source .ksy file and use kaitai-struct-compiler to rebuild
# type: ignore

import kaitaistruct
from kaitaistruct import KaitaiStruct, KaitaiStream, BytesIO
from enum import IntEnum


if getattr(kaitaistruct, 'API_VERSION', (0, 9)) < (0, 11):
    raise Exception("Incompatible Kaitai Struct Python API: 0.11 or later is required, but you have %s" % (kaitaistruct.__version__))

class EmmV4(KaitaiStruct):
    """A whole state of one matrix memory. Header, lineage, integrity table, metadata, zeros to a multiple of 4096, the
    payload in blocks of 65536 bytes, and a mirror of the head in reverse, so that the last 128 bytes are the header again.
    
    .. seealso::
       spec/emm-v4.md section 3
    """

    class Flag(IntEnum):
        decayed = 1
        bare_expanded = 2
        forgotten = 4
        foreign_pairs = 8
        normaliser = 32

    class Origin(IntEnum):
        checkpoint = 0
        merge = 1
        resolve = 2
        upgrade = 3
        repair = 4
        restore = 5

    class Projection(IntEnum):
        none = 0
        hadamard = 1

    class Rule(IntEnum):
        outer_product = 0
        gated_delta = 1
        preconditioned = 2
    def __init__(self, _io, _parent=None, _root=None):
        super(EmmV4, self).__init__(_io)
        self._parent = _parent
        self._root = _root or self
        self._read()

    def _read(self):
        self.header = EmmV4.Header(self._io, self, self._root)
        self.lineage = EmmV4.Lineage(self.header.generation, self._io, self, self._root)
        self.table = []
        for i in range(self.n_blocks):
            self.table.append(EmmV4.BlockEntry(self._io, self, self._root))

        self.metadata = (self._io.read_bytes(self.header.metadata_bytes)).decode(u"UTF-8")
        self.padding = self._io.read_bytes(self.payload_offset - self.head_bytes)
        _ = self.padding
        if not  ((len(_) == 0) or (KaitaiStream.byte_array_max(_) == 0)) :
            raise kaitaistruct.ValidationExprError(self.padding, self._io, u"/seq/4")
        self._raw_payload = self._io.read_bytes(self.n_blocks * 65536)
        _io__raw_payload = KaitaiStream(BytesIO(self._raw_payload))
        self.payload = EmmV4.Payload(_io__raw_payload, self, self._root)
        self.mirror = EmmV4.Mirror(self._io, self, self._root)
        self.trailing = self._io.read_bytes_full()
        _ = self.trailing
        if not len(_) == 0:
            raise kaitaistruct.ValidationExprError(self.trailing, self._io, u"/seq/7")


    def _fetch_instances(self):
        pass
        self.header._fetch_instances()
        self.lineage._fetch_instances()
        for i in range(len(self.table)):
            pass
            self.table[i]._fetch_instances()

        self.payload._fetch_instances()
        self.mirror._fetch_instances()

    class BlockEntry(KaitaiStruct):
        """36 bytes (T-1)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.BlockEntry, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.crc32 = self._io.read_u4le()
            self.sha256 = self._io.read_bytes(32)


        def _fetch_instances(self):
            pass


    class GainScalars(KaitaiStruct):
        """64 bytes (P-4)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.GainScalars, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.scale = self._io.read_f4le()
            if not self.scale >= 0:
                raise kaitaistruct.ValidationLessThanError(0, self.scale, self._io, u"/types/gain_scalars/seq/0")
            if not self.scale <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.scale, self._io, u"/types/gain_scalars/seq/0")
            self.leak = self._io.read_f4le()
            if not self.leak >= 0:
                raise kaitaistruct.ValidationLessThanError(0, self.leak, self._io, u"/types/gain_scalars/seq/1")
            self.count = self._io.read_u4le()
            if not self.count <= 15:
                raise kaitaistruct.ValidationGreaterThanError(15, self.count, self._io, u"/types/gain_scalars/seq/2")
            self.signs = self._io.read_u4le()
            _ = self.signs
            if not _ >> self.count == 0:
                raise kaitaistruct.ValidationExprError(self.signs, self._io, u"/types/gain_scalars/seq/3")
            self.gram_trace = self._io.read_f8le()
            if not self.gram_trace >= 0:
                raise kaitaistruct.ValidationLessThanError(0, self.gram_trace, self._io, u"/types/gain_scalars/seq/4")
            if not self.gram_trace <= 1.7976931348623157E+308:
                raise kaitaistruct.ValidationGreaterThanError(1.7976931348623157E+308, self.gram_trace, self._io, u"/types/gain_scalars/seq/4")
            self.reserved = self._io.read_bytes(40)
            _ = self.reserved
            if not KaitaiStream.byte_array_max(_) == 0:
                raise kaitaistruct.ValidationExprError(self.reserved, self._io, u"/types/gain_scalars/seq/5")


        def _fetch_instances(self):
            pass


    class Header(KaitaiStruct):
        """128 bytes."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.Header, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.magic = self._io.read_bytes(8)
            if not self.magic == b"\x89\x45\x4D\x4D\x0D\x0A\x1A\x0A":
                raise kaitaistruct.ValidationNotEqualError(b"\x89\x45\x4D\x4D\x0D\x0A\x1A\x0A", self.magic, self._io, u"/types/header/seq/0")
            self.version_major = self._io.read_u2le()
            if not self.version_major == 4:
                raise kaitaistruct.ValidationNotEqualError(4, self.version_major, self._io, u"/types/header/seq/1")
            self.version_minor = self._io.read_u2le()
            self.flags = self._io.read_u4le()
            _ = self.flags
            if not _ & 4294967248 == 0:
                raise kaitaistruct.ValidationExprError(self.flags, self._io, u"/types/header/seq/3")
            self.dim = self._io.read_u4le()
            if not self.dim >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.dim, self._io, u"/types/header/seq/4")
            if not self.dim <= 16777216:
                raise kaitaistruct.ValidationGreaterThanError(16777216, self.dim, self._io, u"/types/header/seq/4")
            self.key_dim = self._io.read_u4le()
            if not self.key_dim >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.key_dim, self._io, u"/types/header/seq/5")
            if not self.key_dim <= 16777216:
                raise kaitaistruct.ValidationGreaterThanError(16777216, self.key_dim, self._io, u"/types/header/seq/5")
            self.rank = self._io.read_u4le()
            _ = self.rank
            if not  ((_ >= 1) and (_ <= 16777216) and (_ % 16 == 0)) :
                raise kaitaistruct.ValidationExprError(self.rank, self._io, u"/types/header/seq/6")
            self.dtype = self._io.read_u1()
            if not self.dtype == 1:
                raise kaitaistruct.ValidationNotEqualError(1, self.dtype, self._io, u"/types/header/seq/7")
            self.rule = KaitaiStream.resolve_enum(EmmV4.Rule, self._io.read_u1())
            if not isinstance(self.rule, EmmV4.Rule):
                raise kaitaistruct.ValidationNotInEnumError(self.rule, self._io, u"/types/header/seq/8")
            self.projection = KaitaiStream.resolve_enum(EmmV4.Projection, self._io.read_u1())
            _ = self.projection
            if not  (( ((_ == EmmV4.Projection.hadamard) and (self.rank <= self.key_dim) and (self.flags & 32 == 0)) ) or ( ((_ == EmmV4.Projection.none) and (self.rank == ((self.key_dim + 15) // 16) * 16)) )) :
                raise kaitaistruct.ValidationExprError(self.projection, self._io, u"/types/header/seq/9")
            self.reserved_a = self._io.read_u1()
            if not self.reserved_a == 0:
                raise kaitaistruct.ValidationNotEqualError(0, self.reserved_a, self._io, u"/types/header/seq/10")
            self.projection_seed = self._io.read_u8le()
            self.ridge = self._io.read_f4le()
            if not self.ridge >= 9.5367431640625E-7:
                raise kaitaistruct.ValidationLessThanError(9.5367431640625E-7, self.ridge, self._io, u"/types/header/seq/12")
            if not self.ridge <= 1048576:
                raise kaitaistruct.ValidationGreaterThanError(1048576, self.ridge, self._io, u"/types/header/seq/12")
            self.metadata_bytes = self._io.read_u4le()
            if not self.metadata_bytes >= 2:
                raise kaitaistruct.ValidationLessThanError(2, self.metadata_bytes, self._io, u"/types/header/seq/13")
            if not self.metadata_bytes <= 16384:
                raise kaitaistruct.ValidationGreaterThanError(16384, self.metadata_bytes, self._io, u"/types/header/seq/13")
            self.generation = self._io.read_u8le()
            if not self.generation >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.generation, self._io, u"/types/header/seq/14")
            if not self.generation <= 9999999999999999:
                raise kaitaistruct.ValidationGreaterThanError(9999999999999999, self.generation, self._io, u"/types/header/seq/14")
            self.lsn = self._io.read_u8le()
            self.uuid = self._io.read_bytes(16)
            self.payload_bytes = self._io.read_u8le()
            _ = self.payload_bytes
            if not _ == ((4 * self.rank) * ((self.dim + self.rank) + 16 if self.rule == EmmV4.Rule.preconditioned else self.dim) + (64 if self.rule == EmmV4.Rule.preconditioned else 0)) + (4 * self.rank + 16 if self.flags & 32 != 0 else 0):
                raise kaitaistruct.ValidationExprError(self.payload_bytes, self._io, u"/types/header/seq/17")
            self.sha256 = self._io.read_bytes(32)
            self.reserved_b = self._io.read_u4le()
            if not self.reserved_b == 0:
                raise kaitaistruct.ValidationNotEqualError(0, self.reserved_b, self._io, u"/types/header/seq/19")
            self.crc32 = self._io.read_u4le()


        def _fetch_instances(self):
            pass

        @property
        def is_bare_expanded(self):
            """A-18, the rank was raised without the pairs."""
            if hasattr(self, '_m_is_bare_expanded'):
                return self._m_is_bare_expanded

            self._m_is_bare_expanded = self.flags & int(EmmV4.Flag.bare_expanded) != 0
            return getattr(self, '_m_is_bare_expanded', None)

        @property
        def is_decayed(self):
            """A write had a decay gate below 1."""
            if hasattr(self, '_m_is_decayed'):
                return self._m_is_decayed

            self._m_is_decayed = self.flags & int(EmmV4.Flag.decayed) != 0
            return getattr(self, '_m_is_decayed', None)

        @property
        def is_foreign_pairs(self):
            """The state holds pairs that this memory's journal never held."""
            if hasattr(self, '_m_is_foreign_pairs'):
                return self._m_is_foreign_pairs

            self._m_is_foreign_pairs = self.flags & int(EmmV4.Flag.foreign_pairs) != 0
            return getattr(self, '_m_is_foreign_pairs', None)

        @property
        def is_forgotten(self):
            """A-16, forget was used."""
            if hasattr(self, '_m_is_forgotten'):
                return self._m_is_forgotten

            self._m_is_forgotten = self.flags & int(EmmV4.Flag.forgotten) != 0
            return getattr(self, '_m_is_forgotten', None)

        @property
        def is_normaliser(self):
            """A-23, the payload ends in a normaliser."""
            if hasattr(self, '_m_is_normaliser'):
                return self._m_is_normaliser

            self._m_is_normaliser = self.flags & int(EmmV4.Flag.normaliser) != 0
            return getattr(self, '_m_is_normaliser', None)


    class Lineage(KaitaiStruct):
        """160 bytes."""
        def __init__(self, snapshot_generation, _io, _parent=None, _root=None):
            super(EmmV4.Lineage, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self.snapshot_generation = snapshot_generation
            self._read()

        def _read(self):
            self.write_count = self._io.read_u8le()
            self.time_us = self._io.read_s8le()
            self.chain = self._io.read_bytes(32)
            self.parent_sha256 = self._io.read_bytes(32)
            self.parent_uuid = self._io.read_bytes(16)
            self.writer_nonce = self._io.read_bytes(16)
            self.floor_generation = self._io.read_u8le()
            if not self.floor_generation >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.floor_generation, self._io, u"/types/lineage/seq/6")
            if not self.floor_generation <= self.snapshot_generation:
                raise kaitaistruct.ValidationGreaterThanError(self.snapshot_generation, self.floor_generation, self._io, u"/types/lineage/seq/6")
            self.segment_next = self._io.read_u8le()
            if not self.segment_next >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.segment_next, self._io, u"/types/lineage/seq/7")
            if not self.segment_next <= 9999999999999999:
                raise kaitaistruct.ValidationGreaterThanError(9999999999999999, self.segment_next, self._io, u"/types/lineage/seq/7")
            self.expand_at = self._io.read_f4le()
            if not self.expand_at >= 0:
                raise kaitaistruct.ValidationLessThanError(0, self.expand_at, self._io, u"/types/lineage/seq/8")
            if not self.expand_at <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.expand_at, self._io, u"/types/lineage/seq/8")
            self.origin = KaitaiStream.resolve_enum(EmmV4.Origin, self._io.read_u1())
            _ = self.origin
            if not  ((_ == EmmV4.Origin.checkpoint) or ( ((self.floor_generation == self.snapshot_generation) and ( ((_ == EmmV4.Origin.merge) or (_ == EmmV4.Origin.resolve) or (_ == EmmV4.Origin.upgrade) or (_ == EmmV4.Origin.repair) or (_ == EmmV4.Origin.restore)) )) )) :
                raise kaitaistruct.ValidationExprError(self.origin, self._io, u"/types/lineage/seq/9")
            self.reserved = self._io.read_bytes(27)
            _ = self.reserved
            if not KaitaiStream.byte_array_max(_) == 0:
                raise kaitaistruct.ValidationExprError(self.reserved, self._io, u"/types/lineage/seq/10")


        def _fetch_instances(self):
            pass


    class Mirror(KaitaiStruct):
        """T-4."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.Mirror, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.table = []
            for i in range(self._root.n_blocks):
                self.table.append(EmmV4.BlockEntry(self._io, self, self._root))

            self.metadata = (self._io.read_bytes(self._root.header.metadata_bytes)).decode(u"UTF-8")
            self.lineage = EmmV4.Lineage(self._root.header.generation, self._io, self, self._root)
            self.header = EmmV4.Header(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            for i in range(len(self.table)):
                pass
                self.table[i]._fetch_instances()

            self.lineage._fetch_instances()
            self.header._fetch_instances()


    class Normaliser(KaitaiStruct):
        """P-7. That n is finite, and +0 from key_dim on, is for the reader to check."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.Normaliser, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.n = EmmV4.Row(self._io, self, self._root)
            self.reading = EmmV4.ReadScalars(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            self.n._fetch_instances()
            self.reading._fetch_instances()


    class Payload(KaitaiStruct):
        """The blocks that the table speaks of, and the arrays (P-1) as instances over the same bytes: M (dim rows), then for
        rule 2 P (rank rows), U (16 rows) and the scalars, then the normaliser where the flag says so. Instances are read when they are asked for.
        """
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.Payload, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.blocks = []
            for i in range(self._root.n_blocks):
                self.blocks.append(self._io.read_bytes(65536))



        def _fetch_instances(self):
            pass
            for i in range(len(self.blocks)):
                pass

            _ = self.m
            if hasattr(self, '_m_m'):
                pass
                for i in range(len(self._m_m)):
                    pass
                    self._m_m[i]._fetch_instances()


            _ = self.normaliser
            if hasattr(self, '_m_normaliser'):
                pass
                self._m_normaliser._fetch_instances()

            _ = self.p
            if hasattr(self, '_m_p'):
                pass
                for i in range(len(self._m_p)):
                    pass
                    self._m_p[i]._fetch_instances()


            _ = self.padding
            if hasattr(self, '_m_padding'):
                pass

            _ = self.scalars
            if hasattr(self, '_m_scalars'):
                pass
                self._m_scalars._fetch_instances()

            _ = self.u
            if hasattr(self, '_m_u'):
                pass
                for i in range(len(self._m_u)):
                    pass
                    self._m_u[i]._fetch_instances()



        @property
        def has_gain(self):
            if hasattr(self, '_m_has_gain'):
                return self._m_has_gain

            self._m_has_gain = self._root.header.rule == EmmV4.Rule.preconditioned
            return getattr(self, '_m_has_gain', None)

        @property
        def m(self):
            """M, dim rows."""
            if hasattr(self, '_m_m'):
                return self._m_m

            _pos = self._io.pos()
            self._io.seek(0)
            self._m_m = []
            for i in range(self._root.header.dim):
                self._m_m.append(EmmV4.Row(self._io, self, self._root))

            self._io.seek(_pos)
            return getattr(self, '_m_m', None)

        @property
        def normaliser(self):
            if hasattr(self, '_m_normaliser'):
                return self._m_normaliser

            if self._root.header.is_normaliser:
                pass
                _pos = self._io.pos()
                self._io.seek((self._root.header.payload_bytes - self.row_bytes) - 16)
                self._m_normaliser = EmmV4.Normaliser(self._io, self, self._root)
                self._io.seek(_pos)

            return getattr(self, '_m_normaliser', None)

        @property
        def p(self):
            """P̄, rank rows."""
            if hasattr(self, '_m_p'):
                return self._m_p

            if self.has_gain:
                pass
                _pos = self._io.pos()
                self._io.seek(self.row_bytes * self._root.header.dim)
                self._m_p = []
                for i in range(self._root.header.rank):
                    self._m_p.append(EmmV4.Row(self._io, self, self._root))

                self._io.seek(_pos)

            return getattr(self, '_m_p', None)

        @property
        def padding(self):
            """P-2, zeros up to the end of the last block."""
            if hasattr(self, '_m_padding'):
                return self._m_padding

            _pos = self._io.pos()
            self._io.seek(self._root.header.payload_bytes)
            self._m_padding = self._io.read_bytes_full()
            _ = self._m_padding
            if not  ((len(_) == 0) or (KaitaiStream.byte_array_max(_) == 0)) :
                raise kaitaistruct.ValidationExprError(self._m_padding, self._io, u"/types/payload/instances/padding")
            self._io.seek(_pos)
            return getattr(self, '_m_padding', None)

        @property
        def row_bytes(self):
            if hasattr(self, '_m_row_bytes'):
                return self._m_row_bytes

            self._m_row_bytes = 4 * self._root.header.rank
            return getattr(self, '_m_row_bytes', None)

        @property
        def scalars(self):
            if hasattr(self, '_m_scalars'):
                return self._m_scalars

            if self.has_gain:
                pass
                _pos = self._io.pos()
                self._io.seek(self.row_bytes * ((self._root.header.dim + self._root.header.rank) + 16))
                self._m_scalars = EmmV4.GainScalars(self._io, self, self._root)
                self._io.seek(_pos)

            return getattr(self, '_m_scalars', None)

        @property
        def u(self):
            """U, 16 rows; those at and above `count` are +0 (P-6, for the reader to check)."""
            if hasattr(self, '_m_u'):
                return self._m_u

            if self.has_gain:
                pass
                _pos = self._io.pos()
                self._io.seek(self.row_bytes * (self._root.header.dim + self._root.header.rank))
                self._m_u = []
                for i in range(16):
                    self._m_u.append(EmmV4.Row(self._io, self, self._root))

                self._io.seek(_pos)

            return getattr(self, '_m_u', None)


    class ReadScalars(KaitaiStruct):
        """16 bytes (P-7)."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.ReadScalars, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.floor = self._io.read_f8le()
            if not self.floor >= 2.2250738585072014E-308:
                raise kaitaistruct.ValidationLessThanError(2.2250738585072014E-308, self.floor, self._io, u"/types/read_scalars/seq/0")
            if not self.floor <= 1.0218702384817765E+295:
                raise kaitaistruct.ValidationGreaterThanError(1.0218702384817765E+295, self.floor, self._io, u"/types/read_scalars/seq/0")
            self.query_length = self._io.read_u4le()
            if not self.query_length <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.query_length, self._io, u"/types/read_scalars/seq/1")
            self.reserved = self._io.read_bytes(4)
            _ = self.reserved
            if not KaitaiStream.byte_array_max(_) == 0:
                raise kaitaistruct.ValidationExprError(self.reserved, self._io, u"/types/read_scalars/seq/2")


        def _fetch_instances(self):
            pass


    class Row(KaitaiStruct):
        """P-1, one row of an array, without gaps."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EmmV4.Row, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.numbers = []
            for i in range(self._root.header.rank):
                self.numbers.append(self._io.read_f4le())



        def _fetch_instances(self):
            pass
            for i in range(len(self.numbers)):
                pass



    @property
    def file_bytes(self):
        """P-3, the file's length."""
        if hasattr(self, '_m_file_bytes'):
            return self._m_file_bytes

        self._m_file_bytes = self.mirror_offset + self.head_bytes
        return getattr(self, '_m_file_bytes', None)

    @property
    def head_bytes(self):
        """Header, lineage, table and metadata, before the padding."""
        if hasattr(self, '_m_head_bytes'):
            return self._m_head_bytes

        self._m_head_bytes = (288 + 36 * self.n_blocks) + self.header.metadata_bytes
        return getattr(self, '_m_head_bytes', None)

    @property
    def mirror_offset(self):
        """Where the mirror starts."""
        if hasattr(self, '_m_mirror_offset'):
            return self._m_mirror_offset

        self._m_mirror_offset = self.payload_offset + 65536 * self.n_blocks
        return getattr(self, '_m_mirror_offset', None)

    @property
    def n_blocks(self):
        """T-1, blocks of the payload, the last one zero-padded."""
        if hasattr(self, '_m_n_blocks'):
            return self._m_n_blocks

        self._m_n_blocks = (self.header.payload_bytes + 65535) // 65536
        return getattr(self, '_m_n_blocks', None)

    @property
    def payload_offset(self):
        """Where the payload starts."""
        if hasattr(self, '_m_payload_offset'):
            return self._m_payload_offset

        self._m_payload_offset = ((self.head_bytes + 4095) // 4096) * 4096
        return getattr(self, '_m_payload_offset', None)


