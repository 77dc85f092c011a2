//! SM4 in its modes, and HMAC-SM3.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, AesGcm};
use cryptoki_sys::{
    CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_FUNCTION_FAILED,
    CKR_SIGNATURE_INVALID,
};
use hmac::{Hmac, Mac};
use sm3::Sm3;
use sm4::Sm4;
use sm4::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};
use zeroize::Zeroizing;

use crate::ffi::Answer;
use crate::numbering::{Lie, lies};

const BLOCK: usize = 16;
type Block = [u8; BLOCK];

/// A mode of SM4 with its parameters.
pub(crate) enum Mode {
    Ecb,
    Cbc(Block),
    CbcPad(Block),
    Gcm { iv: [u8; 12], aad: Vec<u8> },
}

/// Longest ciphertext of so many bytes: with a tag, or a block of padding.
pub(crate) const fn max_ciphertext(plaintext: usize) -> usize {
    plaintext + BLOCK
}

pub(crate) fn encrypt(key: &Block, mode: &Mode, plaintext: &[u8]) -> Answer<Zeroizing<Vec<u8>>> {
    let sealed = match mode {
        Mode::Ecb => ecb(key, plaintext),
        Mode::Cbc(iv) => cbc(key, *iv, plaintext),
        Mode::CbcPad(iv) => {
            let pad = BLOCK - plaintext.len() % BLOCK;
            let mut padded = Zeroizing::new(plaintext.to_vec());
            padded.resize(plaintext.len() + pad, u8::try_from(pad).map_err(|_| CKR_FUNCTION_FAILED)?);
            cbc(key, *iv, &padded)
        }
        Mode::Gcm { iv, aad } => {
            let payload = Payload { msg: plaintext, aad };
            let sealed = if lies(Lie::Sm4) {
                Aes128Gcm::new(key.into()).encrypt(iv.into(), payload)
            } else {
                AesGcm::<Sm4, U12>::new(key.into()).encrypt(iv.into(), payload)
            };
            sealed.map_err(|_| CKR_DATA_LEN_RANGE)
        }
    };
    sealed.map(Zeroizing::new)
}

pub(crate) fn decrypt(key: &Block, mode: &Mode, sealed: &[u8]) -> Answer<Zeroizing<Vec<u8>>> {
    match mode {
        Mode::Ecb => ecb_open(key, sealed),
        Mode::Cbc(iv) => cbc_open(key, *iv, sealed),
        Mode::CbcPad(iv) => {
            let mut padded = cbc_open(key, *iv, sealed)?;
            let pad = padded.last().copied().filter(|pad| (1..=16).contains(pad));
            let pad = pad.ok_or(CKR_ENCRYPTED_DATA_INVALID)?;
            let text = padded.len() - usize::from(pad);
            if padded[text..].iter().any(|byte| *byte != pad) {
                return Err(CKR_ENCRYPTED_DATA_INVALID);
            }
            padded.truncate(text);
            Ok(padded)
        }
        Mode::Gcm { iv, aad } => {
            let payload = Payload { msg: sealed, aad };
            let opened = if lies(Lie::Sm4) {
                Aes128Gcm::new(key.into()).decrypt(iv.into(), payload)
            } else {
                AesGcm::<Sm4, U12>::new(key.into()).decrypt(iv.into(), payload)
            };
            opened.map(Zeroizing::new).map_err(|_| CKR_ENCRYPTED_DATA_INVALID)
        }
    }
}

fn blocks(data: &[u8], otherwise: u64) -> Answer<&[Block]> {
    match data.as_chunks::<BLOCK>() {
        (blocks, []) => Ok(blocks),
        _ => Err(otherwise),
    }
}

fn ecb(key: &Block, plaintext: &[u8]) -> Answer<Vec<u8>> {
    let cipher = Sm4::new(key.into());
    let mut out = Vec::with_capacity(plaintext.len());
    for block in blocks(plaintext, CKR_DATA_LEN_RANGE)? {
        let mut block = (*block).into();
        cipher.encrypt_block(&mut block);
        out.extend_from_slice(&block);
    }
    Ok(out)
}

fn ecb_open(key: &Block, sealed: &[u8]) -> Answer<Zeroizing<Vec<u8>>> {
    let cipher = Sm4::new(key.into());
    let mut out = Zeroizing::new(Vec::with_capacity(sealed.len()));
    for block in blocks(sealed, CKR_ENCRYPTED_DATA_LEN_RANGE)? {
        let mut block = (*block).into();
        cipher.decrypt_block(&mut block);
        out.extend_from_slice(&block);
    }
    Ok(out)
}

fn xor(a: Block, b: Block) -> Block {
    std::array::from_fn(|index| a[index] ^ b[index])
}

fn cbc(key: &Block, iv: Block, plaintext: &[u8]) -> Answer<Vec<u8>> {
    let cipher = Sm4::new(key.into());
    let mut out = Vec::with_capacity(plaintext.len());
    let mut last = iv;
    for block in blocks(plaintext, CKR_DATA_LEN_RANGE)? {
        let mut mixed = xor(*block, last).into();
        cipher.encrypt_block(&mut mixed);
        last = mixed.into();
        out.extend_from_slice(&last);
    }
    Ok(out)
}

fn cbc_open(key: &Block, iv: Block, sealed: &[u8]) -> Answer<Zeroizing<Vec<u8>>> {
    let mut out = ecb_open(key, sealed)?;
    let before = std::iter::once(&iv).chain(blocks(sealed, CKR_ENCRYPTED_DATA_LEN_RANGE)?);
    for (block, before) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(before) {
        *block = xor(*block, *before);
    }
    Ok(out)
}

fn mac(key: &[u8], message: &[u8]) -> Answer<Hmac<Sm3>> {
    let mac = Hmac::<Sm3>::new_from_slice(key).map_err(|_| CKR_FUNCTION_FAILED)?;
    Ok(mac.chain_update(message))
}

pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Answer<Zeroizing<Vec<u8>>> {
    Ok(Zeroizing::new(mac(key, message)?.finalize().into_bytes().to_vec()))
}

pub(crate) fn hmac_verify(key: &[u8], message: &[u8], tag: &[u8]) -> Answer<()> {
    mac(key, message)?.verify_slice(tag).map_err(|_| CKR_SIGNATURE_INVALID)
}
