//! The entry points that are not the module beneath's: each takes what is ours and
//! passes everything else through.
//!
//! Safety of all of them: PKCS#11 v2.40 says which pointers a caller passes; that they
//! are such is the caller's promise.

mod encryption;
mod general;
mod keys;
mod objects;
mod signing;
mod wrapping;

use cryptoki_sys::{CK_FUNCTION_LIST, CKR_GENERAL_ERROR};

use crate::ffi::Answer;
use crate::inner;
use crate::numbering::{self, Numbering};

/// The module's function list; None where there is no module beneath or no numbering.
pub(crate) fn list() -> Option<CK_FUNCTION_LIST> {
    numbering::chosen()?;
    let mut list = *inner::list()?;
    list.C_GetFunctionList = Some(crate::C_GetFunctionList);
    list.C_Finalize = Some(general::finalize);
    list.C_GetInfo = Some(general::info);
    list.C_GetTokenInfo = Some(general::token_info);
    list.C_GetMechanismList = Some(general::mechanism_list);
    list.C_GetMechanismInfo = Some(general::mechanism_info);
    list.C_CloseSession = Some(general::close_session);
    list.C_CloseAllSessions = Some(general::close_all_sessions);
    list.C_Logout = Some(general::logout);
    list.C_CreateObject = Some(objects::create);
    list.C_CopyObject = Some(objects::copy);
    list.C_DestroyObject = Some(objects::destroy);
    list.C_GetObjectSize = Some(objects::size);
    list.C_GetAttributeValue = Some(objects::get_attributes);
    list.C_SetAttributeValue = Some(objects::set_attributes);
    list.C_FindObjectsInit = Some(objects::find_init);
    list.C_FindObjects = Some(objects::find);
    list.C_FindObjectsFinal = Some(objects::find_final);
    list.C_EncryptInit = Some(encryption::encrypt_init);
    list.C_Encrypt = Some(encryption::encrypt);
    list.C_DecryptInit = Some(encryption::decrypt_init);
    list.C_Decrypt = Some(encryption::decrypt);
    list.C_DigestInit = Some(signing::digest_init);
    list.C_Digest = Some(signing::digest);
    list.C_SignInit = Some(signing::sign_init);
    list.C_Sign = Some(signing::sign);
    list.C_VerifyInit = Some(signing::verify_init);
    list.C_Verify = Some(signing::verify);
    list.C_GenerateKey = Some(keys::generate_key);
    list.C_GenerateKeyPair = Some(keys::generate_key_pair);
    list.C_WrapKey = Some(wrapping::wrap);
    list.C_UnwrapKey = Some(wrapping::unwrap);
    Some(list)
}

/// The numbering, which was there when the list was handed out.
fn numbering() -> Answer<&'static Numbering> {
    numbering::chosen().map(|(numbering, _)| numbering).ok_or(CKR_GENERAL_ERROR)
}
